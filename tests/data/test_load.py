"""Splits are carved, damaged and described as the recipe says."""

from __future__ import annotations

import contextlib

import datasets
import numpy as np
import pyarrow as pa
import pytest

from samacli.data import encode, load_split, load_splits
from samacli.errors import SamaError
from samacli.recipe.schema import Columns, Data, Noise

TEXT = "text-classification"
IMAGE = "image-classification"


class Recorded:
    """A progress that remembers what it was told."""

    def __init__(self):
        self.totals: dict[str, list[int]] = {}
        self.done: dict[str, list[int]] = {}

    @contextlib.contextmanager
    def task(self, description, total):
        self.totals.setdefault(description, []).append(total)
        self.done.setdefault(description, []).append(0)
        self.open = description
        yield self

    def advance(self, steps=1):
        self.done[self.open][-1] += steps


def load(**config):
    return load_splits(Data(**config), TEXT)


def rows_of(classes: int, each: int):
    return [(f"text {i} of {c}", f"class{c}") for i in range(each) for c in range(classes)]


def texts(split) -> set[str]:
    return set(split.rows["text"])


def test_meta_and_test_are_carved_out_of_train(write):
    rows = rows_of(3, 40)
    path = write("train.csv", rows)
    splits = load(train=path, meta=path, meta_per_class=5, test=path, test_fraction=0.25, seed=3)
    assert (len(splits.train), len(splits.meta), len(splits.test)) == (75, 15, 30)
    assert np.bincount(splits.meta.labels).tolist() == [5, 5, 5]
    assert np.bincount(splits.test.labels).tolist() == [10, 10, 10]
    parts = [splits.train, splits.meta, splits.test]
    together = np.sort(np.concatenate([part.index for part in parts]))
    assert together.tolist() == list(range(120))
    for part in parts:
        assert np.all(np.diff(part.index) > 0)
        assert part.rows["text"] == [rows[i][0] for i in part.index]
        assert [splits.classes[y] for y in part.labels] == [rows[i][1] for i in part.index]
    assert splits.warnings == []
    assert splits.notes == [
        "held 30 rows out of the training split as test split",
        f"took 15 meta rows out of the split '{path}'",
    ]


def test_the_seed_decides_what_is_carved(write):
    path = write("train.csv", rows_of(3, 40))
    config = {"train": path, "meta": path, "meta_per_class": 5}
    first, same, other = load(**config), load(**config), load(**config, seed=1)
    assert first.meta.index.tolist() == same.meta.index.tolist()
    assert first.meta.index.tolist() != other.meta.index.tolist()


def test_one_option_does_not_change_what_another_draws(write):
    path = write("train.csv", rows_of(3, 40))
    plain = load(train=path, meta=path, meta_per_class=5)
    noisy = load(train=path, meta=path, meta_per_class=5, noise=Noise(kind="symmetric", rate=0.5))
    assert plain.meta.index.tolist() == noisy.meta.index.tolist()


def test_meta_rows_a_class_of_another_split(write):
    train, clean = write("train.csv", rows_of(3, 20)), write("clean.csv", rows_of(3, 30)[::-1])
    splits = load(train=train, meta=clean, meta_per_class=4)
    assert np.bincount(splits.meta.labels).tolist() == [4, 4, 4]
    assert len(splits.train) == 60
    assert any("took 12 of 90 rows of" in note for note in splits.notes)


def test_several_clean_sets_are_one(write, tmp_path):
    """In their order; of a row that two have, the later one's label counts."""
    train = write("train.csv", [("a", "x", 1), ("b", "y", 2), ("c", "x", 3)],
                  ("text", "label", "id"))  # fmt: skip
    first = write("clean.csv", [("d", "x", "one"), ("e", "x", "two"), ("f", "y", "three")],
                  ("text", "label", "who"))  # fmt: skip
    second = write("reviewed.jsonl", [("e", "y", "x", 7), ("c", "y", "x", 3)],
                   ("text", "label", "sama_given", "who"))  # fmt: skip
    for names in ([first, second], [first, second, second]):
        splits = load(train=train, meta=names)
        meta = splits.meta
        assert list(meta.rows["text"]) == ["d", "f", "e", "c"]
        assert [splits.classes[i] for i in meta.labels] == ["x", "y", "y", "y"]
        assert meta.given_labels.tolist() == [-1, -1, 0, 0]
        # A column of other values in the second is read as the first has it.
        assert list(meta.rows["who"]) == ["one", "three", "7", "3"]
        assert splits.notes[0] == (
            f"1 of 3 rows of {first} also occurs in {second}; the label there counts"
        )
        assert splits.clean_twins.tolist() == [-1, -1, 3]
    swapped = load(train=train, meta=[second, first]).meta
    assert list(swapped.rows["who"]) == [3, None, None, None], "of another kind, not converted"
    assert len(load(train=train, meta=[first]).meta) == 3
    with pytest.raises(ValueError, match="meta_per_class takes rows out of one split"):
        Data(train=train, meta=[first, second], meta_per_class=1)
    with pytest.raises(ValueError, match="meta and test both name"):
        Data(train=train, meta=[first, second], test=second)
    with pytest.raises(ValueError, match="should be a text, or a list of them"):
        Data(train=train, meta=[first, 3])


def test_several_clean_sets_of_images(write_images, write, tmp_path):
    train = write_images("train", {"cat": 2, "dog": 2})
    first = write_images("clean", {"cat": 2, "dog": 1}, seed=1)
    write_images("more", {"cat": 1, "dog": 1}, seed=2)
    second = write("more.csv", [("more/cat/0.png", "dog"), ("more/dog/0.png", "dog")],
                   ("image", "label"))  # fmt: skip
    meta = load_splits(Data(train=str(train), meta=[str(first), second]), IMAGE).meta
    assert meta.labels.tolist() == [0, 0, 1, 1, 1]
    assert [image.size for image in meta.rows["image"]] == [(8, 8)] * 5


def test_a_class_with_too_few_meta_rows_is_noted(write):
    train = write("train.csv", rows_of(2, 20))
    clean = write("clean.csv", [("c", "class0"), ("d", "class1"), ("e", "class1")])
    splits = load(train=train, meta=clean, meta_per_class=2)
    assert len(splits.meta) == 3
    assert "class 'class0' has only 1 meta row (meta_per_class is 2)" in splits.notes


def test_meta_rows_out_of_the_test_split_leave_it(write):
    train, test = write("train.csv", rows_of(2, 10)), write("test.csv", rows_of(2, 31)[20:])
    splits = load(train=train, meta=test, test=test, meta_per_class=3)
    assert len(splits.meta) == 6
    assert len(splits.test) == 36
    assert not texts(splits.meta) & texts(splits.test)


def test_twins_stay_in_training(write):
    """A carved row that occurs again in training would not be held out."""
    rows = [*rows_of(2, 20), ("twice", "class0"), ("twice", "class0"), ("twice", "class1")]
    path = write("train.csv", rows)
    for seed in range(10):
        splits = load(
            train=path, meta=path, meta_per_class=10, test=path, test_fraction=0.4, seed=seed
        )
        assert splits.warnings == []
        assert texts(splits.train) >= {"twice"}


def test_noise_goes_into_the_rows_and_the_truth_into_a_column(write):
    rows = rows_of(3, 40)
    path = write("train.csv", [(*row, i) for i, row in enumerate(rows)], ("text", "label", "id"))
    splits = load(train=path, meta=path, meta_per_class=5, noise=Noise(kind="symmetric", rate=0.4))
    train = splits.train
    assert train.rows.column_names == ["text", "label", "id", "true_label"]
    assert splits.columns.true_label == "true_label"
    assert train.rows["label"] == [splits.classes[y] for y in train.labels]
    assert train.rows["true_label"] == [rows[i][1] for i in train.index]
    assert [splits.classes[y] for y in train.true_labels] == train.rows["true_label"]
    assert (train.labels != train.true_labels).sum() == round(0.4 * 105)
    assert splits.meta.rows.column_names == ["text", "label", "id"]
    assert splits.meta.rows["label"] == [rows[i][1] for i in splits.meta.index]


@pytest.mark.parametrize(
    "feature",
    [
        datasets.ClassLabel(names=["z", "y", "x"]),
        datasets.Value("int64"),
        datasets.Value("int8"),
        datasets.Value("float32"),
    ],
)
def test_noise_is_written_in_the_column_s_own_type(tmp_path, feature):
    features = datasets.Features({"text": datasets.Value("string"), "label": feature})
    rows = datasets.Dataset.from_dict(
        {"text": [f"t{i}" for i in range(30)], "label": [i % 3 for i in range(30)]}, features
    )
    rows.save_to_disk(str(tmp_path / "set"))
    noise = Noise(kind="class-conditional", rate=0.5)
    splits = load(path=str(tmp_path / "set"), noise=noise)
    assert splits.train.rows.features["label"] == feature
    assert splits.train.rows.features["true_label"] == feature
    assert splits.train.rows["label"] == splits.train.labels.tolist()
    assert splits.train.rows["true_label"] == [i % 3 for i in range(30)]


def test_noise_keeps_a_truth_that_was_there(write):
    rows = [(f"t{i}", i % 2, i % 3 % 2) for i in range(60)]
    path = write("train.csv", rows, ("text", "label", "truth"))
    splits = load(
        train=path,
        columns=Columns(true_label="truth"),
        noise=Noise(kind="symmetric", rate=0.5),
    )
    assert splits.train.rows.column_names == ["text", "label", "truth"]
    assert splits.train.rows["truth"] == [row[2] for row in rows]
    assert splits.train.true_labels.tolist() == [row[2] for row in rows]


def test_a_column_called_true_label_is_not_overwritten(write):
    path = write(
        "train.csv", [(f"t{i}", i % 2, 7) for i in range(20)], ("text", "label", "true_label")
    )
    splits = load(train=path, noise=Noise(kind="symmetric", rate=0.5))
    assert splits.columns.true_label == "sama_true_label"
    assert splits.train.rows["true_label"] == [7] * 20


def test_transition_by_name(write):
    noise = Noise(kind="class-conditional", rate=0.5, transition={"class0": "class2"})
    train = load(train=write("train.csv", rows_of(3, 20)), noise=noise).train
    changed = train.labels != train.true_labels
    assert changed.sum() == 10
    assert set(train.true_labels[changed]) == {0}
    assert set(train.labels[changed]) == {2}


def test_imbalance_and_subset(write):
    path = write("train.csv", rows_of(3, 100))
    splits = load(train=path, noise=Noise(imbalance=25), max_train_rows=60, seed=2)
    assert len(splits.train) == 60
    counts = np.bincount(splits.train.labels)
    assert counts[0] > counts[1] > counts[2]
    assert splits.notes == [
        "kept 124 of 300 training rows (class imbalance 25)",
        "kept 60 of 124 training rows (max_train_rows)",
    ]
    assert np.all(np.diff(splits.train.index) > 0)


def test_abstentions_are_dropped_or_kept(write):
    rows = [("a", 0), ("b", -1), ("c", 1), ("d", ""), ("e", 1)]
    path = write("train.csv", rows)
    dropped = load(train=path, minus_one="none")
    assert dropped.train.labels.tolist() == [0, 1, 1]
    assert dropped.train.index.tolist() == [0, 2, 4]
    assert dropped.notes == ["dropped 2 of 5 rows without a given label"]
    kept = load(train=path, abstain="keep", minus_one="none")
    assert kept.train.labels.tolist() == [0, -1, 1, -1, 1]
    assert kept.notes == ["kept 2 of 5 rows without a given label"]
    noise = Noise(kind="symmetric", rate=0.9)
    noisy = load(train=path, abstain="keep", minus_one="none", noise=noise)
    assert noisy.train.labels.tolist() == [1, -1, 0, -1, 0]


def test_given_label_in_training_true_label_elsewhere(write):
    columns = ("text", "weak", "label")
    train = write("train.jsonl", [("a", 0, 1), ("b", 1, 1), ("c", 0, 0)], columns)
    clean = write("clean.jsonl", [("d", 0, 1), ("e", -1, 0)], columns)
    splits = load(train=train, meta=clean, columns=Columns(label="weak", true_label="label"))
    assert splits.train.labels.tolist() == [0, 1, 0]
    assert splits.train.true_labels.tolist() == [1, 1, 0]
    assert splits.meta.labels.tolist() == [1, 0]
    assert splits.meta.true_labels is None


def test_training_data_without_truth_have_nothing_to_measure(write):
    train = write("train.csv", [("a", 0), ("b", 1)], ("text", "weak"))
    clean = write("clean.csv", [("d", 0), ("e", 1)], ("text", "label"))
    splits = load(train=train, meta=clean, columns=Columns(label="weak", true_label="label"))
    assert splits.train.true_labels is None
    assert splits.meta.labels.tolist() == [0, 1]


def test_a_clean_file_may_call_its_labels_as_the_training_file_does(write):
    train = write("train.csv", [("a", 0, 1), ("b", 1, 1)], ("text", "label", "truth"))
    clean = write("clean.csv", [("d", 0), ("e", 1)])
    splits = load(train=train, meta=clean, columns=Columns(true_label="truth"))
    assert splits.meta.labels.tolist() == [0, 1]
    assert splits.notes == [
        f"{clean} has no column 'truth'; its labels are those of column 'label'"
    ]


def test_the_progress_adds_up(write, tokenizer, write_images):
    progress = Recorded()
    path = write("train.csv", rows_of(3, 700))
    splits = load_splits(Data(train=path, test=path, test_fraction=0.5), TEXT, progress)
    encode(
        splits.train, splits.columns, TEXT, processor=tokenizer, config=Data(), progress=progress
    )
    images = load_splits(Data(train=str(write_images("set", {"a": 3, "b": 2}))), IMAGE, progress)
    for limit in (0, 9):
        config = Data(memory_limit_mb=limit)
        encode(images.train, images.columns, IMAGE, config=config, progress=progress)
    assert progress.done == {
        "checking the training split": [2100, 5],
        "tokenising the training split": [1050],
        "decoding the training split": [5, 10],
    }
    assert progress.totals == progress.done


def test_numbers_take_the_names_of_the_true_label(tmp_path):
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "weak": datasets.Value("int64"),
            "label": datasets.ClassLabel(names=["spam", "ham"]),
        }
    )
    values = {"text": ["a", "b", "c"], "weak": [1, 0, -1], "label": [1, 1, 0]}
    datasets.Dataset.from_dict(values, features).save_to_disk(str(tmp_path / "set"))
    splits = load(path=str(tmp_path / "set"), columns=Columns(label="weak", true_label="label"))
    assert splits.classes == ["spam", "ham"]
    assert splits.train.labels.tolist() == [1, 0]
    assert splits.train.rows.features["weak"].names == ["spam", "ham"]


def test_a_truth_that_no_given_label_names_is_unknown(write):
    path = write("train.csv", [("a", 0, 0), ("b", 1, 2), ("c", 1, 1)], ("text", "weak", "label"))
    splits = load(train=path, columns=Columns(label="weak", true_label="label"))
    assert splits.classes == ["0", "1"]
    assert splits.train.true_labels.tolist() == [0, -1, 1]
    assert splits.notes == ["1 training row has a true label that no given label names"]


def test_overlaps_are_counted(write):
    train = write("train.csv", [(f"t{i}", i % 2) for i in range(20)])
    meta = write("meta.csv", [("t3", 1), ("t4", 0), ("new", 1), ("t3", 0)])
    test = write("test.csv", [("t5", 1), ("new", 0), ("other", 0)])
    splits = load(train=train, meta=meta, test=test)
    assert splits.warnings == [
        "1 of 3 test rows also occurs in the meta split (same text)",
        "1 of 3 test rows also occurs in the training split (same text)",
    ]
    # t3 is a training row of class 1, by the first of its clean rows too; so is t4, of class 0.
    assert splits.notes == [
        "3 of 4 meta rows also occur in the training split (same text): its 2 rows with them count "
        "as clean, not as noisy; the given labels are the clean ones"
    ]
    assert splits.clean_twins.tolist() == [{3: 0, 4: 1}.get(i, -1) for i in range(20)]


def test_pairs_overlap_as_pairs(write):
    columns = ("a", "b", "label")
    train = write("train.csv", [("x", "y", 0), ("u", "v", 1), ("xy", "z", 0)], columns)
    meta = write("meta.csv", [("x", "y", 0), ("x", "v", 1), ("x", "yz", 1)], columns)
    splits = load(train=train, meta=meta, columns=Columns(text="a", text_pair="b"))
    assert splits.notes[0].startswith("1 of 3 meta rows also occurs in the training split")
    assert splits.clean_twins.tolist() == [0, -1, -1]


def test_images_overlap_by_their_files(write_images, tmp_path):
    root = write_images("train", {"a": 4, "b": 4})
    clean = write_images("clean", {"a": 2, "b": 2}, seed=9)
    (clean / "a" / "twin.png").write_bytes((root / "b" / "2.png").read_bytes())
    splits = load_splits(Data(train=str(root), meta=str(clean)), "image-classification")
    assert "1 of 5 meta rows also occurs in the training split (same image)" in splits.notes[-1]
    assert (splits.clean_twins >= 0).sum() == 1


def test_classes_that_a_split_lacks_are_named(write):
    train = write("train.csv", rows_of(4, 5))
    meta = write("meta.csv", [("x", "class0"), ("y", "class2")])
    splits = load(train=train, meta=meta)
    assert splits.warnings == ["the meta split has no row of class 'class1', 'class3'"]


def test_a_class_without_training_rows_is_named(tmp_path):
    feature = datasets.ClassLabel(names=["a", "b", "c"])
    features = datasets.Features({"text": datasets.Value("string"), "label": feature})
    data = datasets.DatasetDict(
        {
            "train": datasets.Dataset.from_dict({"text": ["x", "y"], "label": [0, 1]}, features),
            "test": datasets.Dataset.from_dict({"text": ["v", "w"], "label": [2, 1]}, features),
        }
    )
    data.save_to_disk(str(tmp_path / "set"))
    splits = load(path=str(tmp_path / "set"), test="test")
    assert splits.classes == ["a", "b", "c"]
    assert splits.warnings == [
        "no row of the training split is given a class that the test split has: 'c'"
    ]


def test_one_split_for_a_trained_model(write):
    path = write("test.csv", [("x", "ham"), ("y", "spam"), ("z", "ham")])
    split = load_split(Data(test=path), TEXT, ["spam", "ham"])
    assert split.labels.tolist() == [1, 0, 1]
    assert (
        load_split(Data(path=path, train=None, test="train"), TEXT, ["spam", "ham"]).name == "test"
    )
    with pytest.raises(SamaError, match=r"label 'ham' in row 0 .* which the model lacks"):
        load_split(Data(test=path), TEXT, ["spam", "no spam"])
    numbers = write("numbers.csv", [("x", 1), ("y", 0)])
    assert load_split(Data(test=numbers), TEXT, ["spam", "ham"]).labels.tolist() == [1, 0]


def test_rows_stay_on_disk(write):
    """Reading allocates a small part of what the texts take."""
    rows = [(f"{i} " + "word " * 2000, i % 3) for i in range(1000)]
    for ending in ("csv", "jsonl", "parquet"):
        path = write(f"train.{ending}", rows)
        before = pa.total_allocated_bytes()
        noise = Noise(kind="symmetric", rate=0.3)
        splits = load(train=path, max_train_rows=800, noise=noise)
        assert len(splits.train.rows[17]["text"]) > 10_000
        assert pa.total_allocated_bytes() - before < 1_000_000
