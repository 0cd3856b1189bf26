"""Given labels beside the truth of clean splits, and labelling functions' votes, row by row."""

from __future__ import annotations

import json

import numpy as np
import pytest

from samacli.data import load_split, load_splits
from samacli.data.split import join
from samacli.recipe.schema import Columns, Data, Noise

TEXT = "text-classification"
NAMES = ["ham", "spam", "eggs"]
WEAK = Columns(label="weak", true_label="label")


def records(count: int, seed: int, prefix: str):
    """(text, weak, label) with the weak label wrong or missing in places."""
    generator = np.random.default_rng(seed)
    return [
        (
            f"{prefix} {i}",
            None if i % 7 == 3 else NAMES[generator.integers(3)],
            NAMES[generator.integers(3)],
        )
        for i in range(count)
    ]


def written(write, name, rows):
    return write(name, rows, ("text", "weak", "label"))


def assert_given(splits, split, rows):
    """Each row's given label and truth are those of the row with its text."""
    of = {text: (weak, label) for text, weak, label in rows}
    assert split.given_labels.dtype == np.int64
    given = [None if y < 0 else splits.classes[y] for y in split.given_labels]
    truth = [splits.classes[y] for y in split.labels]
    assert list(zip(given, truth, strict=True)) == [of[text] for text in split.rows["text"]]


def test_clean_files_keep_the_label_they_were_given(write):
    train, clean, held = records(60, 0, "train"), records(50, 1, "clean"), records(20, 2, "test")
    splits = load_splits(
        Data(
            train=written(write, "train.jsonl", train),
            meta=(path := written(write, "clean.jsonl", clean)),
            meta_per_class=4,
            validation=path,
            test=written(write, "test.jsonl", held),
            columns=WEAK,
        ),
        TEXT,
    )
    assert splits.train.given_labels is None
    assert len(splits.meta) == 12
    assert len(splits.validation) == 38
    for split, rows in ((splits.meta, clean), (splits.validation, clean), (splits.test, held)):
        assert_given(splits, split, rows)
    assert (splits.test.given_labels == -1).any()


@pytest.mark.parametrize("abstain", ["drop", "keep"])
def test_rows_out_of_a_training_split_with_a_truth_keep_it(write, abstain):
    rows = records(90, 3, "row")
    path = written(write, "train.jsonl", rows)
    splits = load_splits(
        Data(
            train=path,
            meta=path,
            meta_per_class=5,
            test=path,
            test_fraction=0.3,
            abstain=abstain,
            max_train_rows=20,
            columns=WEAK,
        ),
        TEXT,
    )
    assert splits.train.given_labels is None
    for split in (splits.meta, splits.test):
        assert_given(splits, split, rows)
        assert (split.given_labels != split.labels).any()
    assert (splits.test.given_labels == -1).any() == (abstain == "keep")


def test_one_label_column_gives_none(write):
    path = write("train.csv", [(f"text {i}", NAMES[i % 3]) for i in range(30)])
    clean = write("clean.csv", [(f"clean {i}", NAMES[i % 3]) for i in range(9)])
    same = Columns(true_label="label")
    for columns in (Columns(), same):
        config = Data(
            train=path, meta=path, meta_per_class=2, validation=clean, test=clean, columns=columns
        )
        splits = load_splits(config, TEXT)
        for split in (splits.train, splits.meta, splits.validation, splits.test):
            assert split.given_labels is None
            assert split.votes is None


def test_injected_noise_leaves_no_given_labels(write):
    path = written(write, "train.jsonl", records(60, 4, "row"))
    clean = written(write, "clean.jsonl", records(20, 5, "clean"))
    config = Data(
        train=path,
        meta=path,
        meta_per_class=3,
        test=clean,
        columns=WEAK,
        noise=Noise(kind="symmetric", rate=0.3),
    )
    splits = load_splits(config, TEXT)
    assert splits.meta.given_labels is None
    assert splits.test.given_labels is None
    assert load_split(config, TEXT, NAMES).given_labels is None


def test_given_labels_of_clean_rows_can_be_left_unknown(write):
    path = written(write, "train.jsonl", records(60, 4, "row"))
    clean = written(write, "clean.jsonl", records(20, 5, "clean"))
    known = load_splits(Data(train=path, meta=clean, columns=WEAK), TEXT)
    assert (known.meta.given_labels >= 0).any()
    config = Data(train=path, meta=clean, columns=WEAK, clean_given_labels=False)
    left = load_splits(config, TEXT)
    assert left.meta.given_labels is None
    assert left.meta.labels.tolist() == known.meta.labels.tolist()


def test_a_given_name_that_is_no_class_is_none(write):
    train = written(write, "train.jsonl", [("a", "ham", "ham"), ("b", "spam", "spam")])
    clean = written(write, "clean.jsonl", [("c", "bacon", "ham"), ("d", "ham", "spam")])
    splits = load_splits(Data(train=train, test=clean, columns=WEAK), TEXT)
    assert splits.test.given_labels.tolist() == [-1, 0]
    split = load_split(Data(test=clean, columns=WEAK), TEXT, ["spam", "ham"])
    assert split.labels.tolist() == [1, 0]
    assert split.given_labels.tolist() == [-1, 1]


@pytest.mark.parametrize("broken", [[0.5, 1.0], [7, 0], [[0], [1]]])
def test_given_labels_that_cannot_be_read_are_no_reason_to_refuse(write, broken):
    train = written(write, "train.jsonl", [("a", "ham", "ham"), ("b", "spam", "spam")])
    clean = written(write, "clean.jsonl", [("c", broken[0], "ham"), ("d", broken[1], "spam")])
    config = Data(train=train, test=clean, columns=WEAK)
    split = load_split(config, TEXT, ["ham", "spam"])
    assert split.given_labels is None
    assert split.labels.tolist() == [0, 1]


@pytest.fixture
def wrench(tmp_path):
    """A WRENCH directory, and each text's (votes, truth)."""
    generator = np.random.default_rng(6)
    rows = {}
    for name, count in (("train", 90), ("valid", 40), ("test", 30)):
        entries = {}
        for i in range(count):
            votes = generator.integers(-1, 3, 5).tolist() if i % 6 else [-1] * 5
            truth = int(generator.integers(3))
            rows[f"{name} {i}"] = (votes, truth)
            entries[str(i)] = {
                "label": truth,
                "weak_labels": votes,
                "data": {"text": f"{name} {i}"},
            }
        (tmp_path / f"{name}.json").write_text(json.dumps(entries))
    (tmp_path / "label.json").write_text(json.dumps(dict(enumerate(NAMES))))
    return str(tmp_path), rows


def assert_votes(split, rows):
    """Each row's votes are those of the row with its text, and its given label leads among them."""
    assert split.votes.dtype == np.int64
    assert split.votes.shape == (len(split), 5)
    assert split.votes.tolist() == [rows[text][0] for text in split.rows["text"]]
    assert split.votes.tolist() == list(split.rows["weak_labels"])
    given = split.labels if split.given_labels is None else split.given_labels
    for votes, label in zip(split.votes, given.tolist(), strict=True):
        counts = np.bincount(votes[votes >= 0], minlength=3)
        assert label == -1 if counts.sum() == 0 else counts[label] == counts.max()


@pytest.mark.parametrize("abstain", ["drop", "keep"])
def test_wrench_splits_bring_votes_and_the_label_made_of_them(wrench, abstain):
    path, rows = wrench
    config = Data(
        path=path,
        meta="valid",
        meta_per_class=4,
        validation="valid",
        test="test",
        abstain=abstain,
        max_train_rows=30,
        noise=Noise(imbalance=3),
    )
    splits = load_splits(config, TEXT)
    assert splits.train.given_labels is None
    assert len(splits.train) == 30
    for split in (splits.train, splits.meta, splits.validation, splits.test):
        assert_votes(split, rows)
    for split in (splits.meta, splits.validation, splits.test):
        assert split.labels.tolist() == [rows[text][1] for text in split.rows["text"]]
        assert split.given_labels is not None
        assert (split.given_labels != split.labels).any()
    alone = load_split(config, TEXT, NAMES)
    assert alone.given_labels.tolist() == splits.test.given_labels.tolist()
    assert alone.votes.tolist() == splits.test.votes.tolist()


def test_wrench_rows_out_of_the_training_split(wrench):
    path, rows = wrench
    config = Data(path=path, meta="train", meta_per_class=5, test="train", test_fraction=0.2)
    splits = load_splits(config, TEXT)
    for split in (splits.train, splits.meta, splits.test):
        assert_votes(split, rows)
    assert splits.meta.given_labels is not None


def test_injected_noise_leaves_the_votes(wrench):
    path, rows = wrench
    config = Data(path=path, meta="valid", noise=Noise(kind="symmetric", rate=0.5))
    splits = load_splits(config, TEXT)
    for split in (splits.train, splits.meta):
        assert split.votes.tolist() == [rows[text][0] for text in split.rows["text"]]
    assert splits.meta.given_labels is None


def test_a_column_called_weak_labels_elsewhere_is_a_column(write):
    rows = [(f"text {i}", [i % 2, -1], NAMES[i % 2]) for i in range(8)]
    path = write("train.jsonl", rows, ("text", "weak_labels", "label"))
    splits = load_splits(Data(train=path, test=path, test_fraction=0.5), TEXT)
    assert splits.train.votes is None
    assert splits.test.votes is None


def test_no_rows_still_have_as_many_functions(tmp_path):
    entries = {
        str(i): {"label": i, "weak_labels": [i, -1], "data": {"text": f"text {i}"}}
        for i in range(2)
    }
    (tmp_path / "train.json").write_text(json.dumps(entries))
    (tmp_path / "label.json").write_text('{"0": "ham", "1": "spam"}')
    splits = load_splits(Data(path=str(tmp_path), test="train", test_fraction=0.5), TEXT)
    assert splits.test.votes.shape == (0, 2)
    assert splits.train.votes.tolist() == [[0, -1], [1, -1]]


def test_joined_splits_have_neither(wrench):
    path, _ = wrench
    splits = load_splits(Data(path=path, meta="valid"), TEXT)
    joined = join(splits.train, splits.meta, splits.columns, TEXT)
    assert joined.given_labels is None
    assert joined.votes is None
