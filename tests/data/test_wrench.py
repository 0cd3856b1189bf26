"""WRENCH directories: majority vote as given label, the file's label as truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from samacli.data import load_split, load_splits
from samacli.data.wrench import majority_vote
from samacli.errors import SamaError
from samacli.recipe.schema import Columns, Data, Noise

TEXT = "text-classification"
TRAIN = [
    ("one", 0, [0, 0, -1]),
    ("two", 1, [1, -1, -1]),
    ("three", 1, [-1, -1, -1]),
    ("four", 0, [1, 1, 0]),
]
TEST = [("five", 1, [0, -1, -1]), ("six", 0, [-1, -1, -1])]


@pytest.fixture
def wrench(tmp_path):
    def write(train=TRAIN, test=TEST, names=("HAM", "SPAM"), folder="set"):
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for name, rows in (("train", train), ("valid", test), ("test", test)):
            entries = {
                str(i): {"label": y, "weak_labels": votes, "data": {"text": text, "length": 3}}
                for i, (text, y, votes) in enumerate(rows)
            }
            (root / f"{name}.json").write_text(json.dumps(entries))
        (root / "label.json").write_text(json.dumps({str(i): n for i, n in enumerate(names)}))
        return str(root)

    return write


@given(
    arrays(np.int64, st.tuples(st.integers(1, 30), st.integers(1, 6)), elements=st.integers(-1, 3))
)
def test_majority_is_a_class_with_most_votes(votes):
    chosen = majority_vote(votes, 4, 0)
    for row, label in zip(votes, chosen, strict=True):
        cast = row[row >= 0]
        if cast.size == 0:
            assert label == -1
        else:
            counts = np.bincount(cast, minlength=4)
            assert counts[label] == counts.max()


def test_ties_are_drawn_evenly_and_repeatably():
    votes = np.tile([0, 1, 1, 0, 2, -1], (20_000, 1))
    chosen = majority_vote(votes, 3, 7)
    assert np.array_equal(chosen, majority_vote(votes, 3, 7))
    counts = np.bincount(chosen, minlength=3)
    assert counts[2] == 0
    assert abs(counts[0] - 10_000) < 300


def test_a_wrench_directory(wrench):
    splits = load_splits(Data(path=wrench(), meta="valid", test="test"), TEXT)
    assert splits.classes == ["HAM", "SPAM"]
    assert splits.notes == ["dropped 1 of 4 rows without a given label"]
    assert splits.train.labels.tolist() == [0, 1, 1]
    assert splits.train.true_labels.tolist() == [0, 1, 0]
    assert splits.train.index.tolist() == [0, 1, 3]
    assert splits.train.rows.column_names == [
        "text",
        "length",
        "weak_labels",
        "label",
        "true_label",
    ]
    assert splits.train.rows["weak_labels"] == [TRAIN[i][2] for i in (0, 1, 3)]
    assert splits.columns.true_label == "true_label"
    # The clean splits go by the truth, votes or not.
    assert splits.meta.labels.tolist() == splits.test.labels.tolist() == [1, 0]


def test_one_split_for_a_trained_model_goes_by_the_truth(wrench):
    split = load_split(Data(path=wrench(), test="test"), TEXT, ["HAM", "SPAM"])
    assert split.labels.tolist() == [1, 0]


def test_abstentions_kept(wrench):
    splits = load_splits(Data(path=wrench(), abstain="keep"), TEXT)
    assert splits.train.labels.tolist() == [0, 1, -1, 1]
    assert splits.train.rows["label"] == [0, 1, None, 1]


def test_columns_may_be_named(wrench):
    columns = Columns(label="vote", true_label="gold")
    splits = load_splits(Data(path=wrench(), meta="valid", columns=columns), TEXT)
    assert splits.train.rows.column_names == ["text", "length", "weak_labels", "vote", "gold"]
    assert splits.meta.labels.tolist() == [1, 0]


def test_without_truth_there_is_nothing_to_measure(wrench):
    path = wrench(train=[(text, None, votes) for text, _, votes in TRAIN])
    splits = load_splits(Data(path=path), TEXT)
    assert splits.train.true_labels is None


def test_noise_on_top_keeps_the_file_s_truth(wrench):
    splits = load_splits(Data(path=wrench(), noise=Noise(kind="symmetric", rate=0.9)), TEXT)
    assert splits.train.labels.tolist() == [1, 0, 0]
    assert splits.train.true_labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (("x", 0, [0, 5, -1]), r"row '4' has the weak label 5; it must be −1 or a class"),
        (("x", 0, [0]), r"row '4' has 1 weak label, the first has 3"),
        (("x", 9, [0, 1, 1]), r"row '4' has the label 9, which label\.json does not name"),
        (("x", 0, None), r"row '4' lacks 'data' or 'weak_labels'"),
    ],
)
def test_a_bad_row_is_named(wrench, row, sentence):
    with pytest.raises(SamaError, match=sentence):
        load_splits(Data(path=wrench(train=[*TRAIN, row])), TEXT)


def test_broken_files_are_named(wrench, tmp_path):
    path = wrench()
    (tmp_path / "set" / "label.json").write_text('["HAM", "SPAM"]')
    with pytest.raises(SamaError, match=r"label\.json must name the classes by number"):
        load_splits(Data(path=path), TEXT)
    (tmp_path / "set" / "train.json").write_text('{"0": \n')
    wrench_error = r"train\.json is not valid JSON: .* in line 2"
    (tmp_path / "set" / "label.json").write_text('{"0": "HAM", "1": "SPAM"}')
    with pytest.raises(SamaError, match=wrench_error):
        load_splits(Data(path=path), TEXT)


def relations(folder, data):
    """A WRENCH directory of two relation rows alike."""
    folder.mkdir(exist_ok=True)
    entry = {"label": 0, "weak_labels": [0, -1], "data": data}
    entries = {"0": entry, "1": {**entry, "weak_labels": [1, 1]}}
    for name in ("train", "valid", "test"):
        (folder / f"{name}.json").write_text(json.dumps(entries))
    (folder / "label.json").write_text(json.dumps({"0": "no", "1": "yes"}))
    return Data(source="wrench", path=str(folder), columns=Columns(text="marked_text"))


@pytest.mark.parametrize(
    ("first", "second", "marked"),
    [
        ([0, 7], [16, 20], "$ aspirin $ blocks # COX2 # ."),
        ([16, 20], [0, 7], "# aspirin # blocks $ COX2 $ ."),
        ([9, 16], [16, 20], "aspirin $ blocks $ # COX2 # ."),
    ],
)
def test_relation_rows_say_which_entities_are_meant(tmp_path, first, second, marked):
    text = "aspirin  blocks COX2."
    config = relations(tmp_path / "set", {"text": text, "span1": first, "span2": second})
    rows = load_splits(config, TEXT).train.rows
    assert rows["marked_text"][0] == marked
    assert rows["text"][0] == text


@pytest.mark.parametrize("span", [None, [3], [5, 3], [0, 99], [-1, 2], [0.0, 2.0], "0"])
def test_a_wrong_span_is_named(tmp_path, span):
    config = relations(tmp_path / "set", {"text": "a text", "span1": [0, 1], "span2": span})
    with pytest.raises(SamaError, match=r"train\.json: row '0' has the span2"):
        load_splits(config, TEXT)
