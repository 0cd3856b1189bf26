"""Data that peers of this tool read otherwise than they were meant, without a word."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import datasets
import numpy as np
import pandas
import pytest
from PIL import Image

from samacli.data import load_split, load_splits
from samacli.errors import SamaError
from samacli.export.dataset import label_values, write_dataset
from samacli.recipe.schema import Columns, Data

TEXT = "text-classification"
IMAGE = "image-classification"


def load(**config):
    return load_splits(Data(**config), TEXT)


# A file replaced by another with the same time stamp and size


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_a_replaced_file_is_read_again(write, ending):
    path = Path(write(f"train.{ending}", [("good", "x"), ("evil", "y")]))
    stamp = (1_700_000_000, 1_700_000_000)
    os.utime(path, stamp)
    assert load(train=str(path)).train.rows["text"] == ["good", "evil"]
    before = path.stat()
    path = Path(write(f"train.{ending}", [("evil", "x"), ("good", "y")]))
    os.utime(path, stamp)
    assert path.stat().st_size == before.st_size
    assert load(train=str(path)).train.rows["text"] == ["evil", "good"]


# Labels


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_labels_with_leading_zeros_are_the_same_in_every_format(write, ending):
    clean = write("clean.jsonl", [("c", "01"), ("d", "02")])
    splits = load(train=write(f"train.{ending}", [("a", "01"), ("b", "02")]), meta=clean)
    assert splits.classes == ["01", "02"]
    assert splits.train.rows["label"] == ["01", "02"]


def test_missing_labels_among_oddly_written_numbers_stay_missing(write):
    splits = load(train=write("train.csv", [("a", "01"), ("b", "NA"), ("c", "02"), ("d", "")]))
    assert splits.classes == ["01", "02"]
    assert splits.train.index.tolist() == [0, 2]
    assert load(train=write("t.csv", [("a", "NA"), ("b", "US")])).classes == ["NA", "US"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_minus_one_beside_others_is_asked_about(write, ending):
    rows = [("a", -1), ("b", 0), ("c", 1), ("d", -1)]
    path = write(f"train.{ending}", rows)
    with pytest.raises(SamaError) as caught:
        load(train=path)
    assert str(caught.value) == (
        f"column 'label' of {path} has −1 in 2 of 4 rows, beside 0, 1: say whether that is a class "
        "(data.minus_one=class) or means that no label was given (data.minus_one=none)"
    )
    assert load(train=path, minus_one="class").train.labels.tolist() == [0, 1, 2, 0]
    assert load(train=path, minus_one="none").train.labels.tolist() == [0, 1]


def test_minus_one_of_the_clean_labels_is_a_class(write):
    rows = [(f"text {i}", i % 3 - 1) for i in range(30)]
    clean = write("clean.csv", [("a", -1), ("b", 0), ("c", 1)])
    splits = load(train=write("train.csv", rows), meta=clean)
    assert splits.classes == ["-1", "0", "1"]
    assert np.bincount(splits.train.labels).tolist() == [10, 10, 10]
    path = write("truth.csv", [(*row, row[1]) for row in rows], ("text", "label", "truth"))
    splits = load(train=path, meta=path, meta_per_class=2, columns=Columns(true_label="truth"))
    assert np.bincount(splits.meta.labels).tolist() == [2, 2, 2]
    split = load_split(Data(train=None, test=clean), TEXT, ["-1", "0", "1"])
    assert split.labels.tolist() == [0, 1, 2]


def test_minus_one_of_named_classes_is_no_label(tmp_path):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["x", "y"])}
    )
    values = {"text": ["a", "b", "c"], "label": [0, -1, 1]}
    datasets.Dataset.from_dict(values, features).to_parquet(str(tmp_path / "t.parquet"))
    assert load(train=str(tmp_path / "t.parquet")).train.index.tolist() == [0, 2]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_white_space_is_no_part_of_a_label(write, ending):
    rows = [("a", "pos"), ("b", "pos "), ("c", "\u00a0neg"), ("d", "neg\t")]
    clean = write(f"clean.{ending}", [("e", " pos"), ("f", "neg")])
    splits = load(train=write(f"train.{ending}", rows), meta=clean)
    assert splits.classes == ["neg", "pos"]
    assert splits.train.labels.tolist() == [1, 1, 0, 0]
    assert splits.meta.labels.tolist() == [1, 0]
    assert splits.train.rows["label"] == [label for _, label in rows]  # what goes out


@pytest.mark.parametrize(
    "pair", [("pos", "Pos"), ("pos", "ｐｏｓ"), ("é", "e\u0301"), ("pos", "po\u200bs"), ("1", "01")]
)
def test_labels_that_look_alike_are_warned_of(write, pair):
    rows = [("a", pair[0]), ("b", pair[1]), ("c", "other" if pair[0] != "1" else "7")]
    warnings = load(train=write("train.csv", rows)).warnings
    assert len(warnings) == 1
    assert all(repr(name) in warnings[0] for name in pair)
    assert "differ only in how they are written" in warnings[0]


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([True, False], "bool"), ([1.0, 0.0], "float64"), ([1, 0], "uint8"), (["b ", "a"], "string")],
)
def test_a_changed_label_is_of_the_column_s_type(tmp_path, values, dtype):
    given = values * 2
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.Value(dtype)})
    rows = datasets.Dataset.from_dict({"text": list("abcd"), "label": given}, features)
    rows.to_parquet(str(tmp_path / "t.parquet"))
    splits = load(train=str(tmp_path / "t.parquet"))
    train = splits.train
    changed = train.labels.copy()
    changed[3] = 1 - changed[3]
    suggested, feature = label_values(
        changed, splits.classes, features["label"], (train.labels, train.rows["label"])
    )
    assert feature == features["label"]
    out = train.rows.add_column("sama_label", suggested, feature=feature)
    same = [a == b for a, b in zip(out["label"], out["sama_label"], strict=True)]
    assert same == [True, True, True, False]
    assert type(out["sama_label"][3]) is type(given[3])


def test_unsigned_ids_of_named_classes(tmp_path):
    """Beside a true label that names the classes."""
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.Value("uint8"),
            "truth": datasets.ClassLabel(names=["x", "y"]),
        }
    )
    values = {"text": list("abc"), "label": [0, 1, 1], "truth": [0, 1, 0]}
    datasets.Dataset.from_dict(values, features).to_parquet(str(tmp_path / "t.parquet"))
    splits = load(train=str(tmp_path / "t.parquet"), columns=Columns(true_label="truth"))
    assert splits.train.rows.features["label"] == features["truth"]
    assert splits.train.labels.tolist() == [0, 1, 1]


# Folders


@pytest.mark.parametrize("names", [("train", "val"), ("Train", "Test"), ("training", "validation")])
def test_a_folder_of_splits_as_training_split_is_its_training_split(write_images, names):
    root = write_images(f"set/{names[0]}", {"cat": 3, "dog": 2}).parent
    write_images(f"set/{names[1]}", {"cat": 1, "dog": 1})
    splits = load_splits(Data(train=str(root)), IMAGE)
    assert splits.classes == ["cat", "dog"]
    assert len(splits.train) == 5


def test_a_folder_of_splits_as_another_split(write_images):
    root = write_images("set/train", {"cat": 3, "dog": 2}).parent
    write_images("set/val", {"cat": 1, "dog": 1}, seed=1)
    train = str(root / "train")
    splits = load_splits(Data(train=train, validation=str(root)), IMAGE)
    assert len(splits.validation) == 2
    with pytest.raises(SamaError, match=r"holds several splits \(train, val\); name one of them"):
        load_splits(Data(train=train, test=str(root)), IMAGE)


@pytest.mark.parametrize("role", ["validation", "test"])
def test_a_folder_of_splits_named_twice_is_not_trained_and_measured_on(write_images, role):
    """The mend that the message gives takes both splits."""
    root = write_images("set/train", {"cat": 3, "dog": 2}).parent
    write_images({"validation": "set/val", "test": "set/test"}[role], {"cat": 1, "dog": 1}, seed=1)
    with pytest.raises((SamaError, ValueError)) as caught:
        load_splits(Data(**{"train": str(root), role: str(root)}), IMAGE)
    mend = f"data.path={root} data.train=train data.{role}={role}"
    assert mend in str(caught.value)
    said = dict(word.removeprefix("data.").split("=") for word in mend.split())
    splits = load_splits(Data(**said), IMAGE)
    assert (len(splits.train), len(getattr(splits, role))) == (5, 2)


def test_folders_of_the_same_folders_are_no_classes(write_images):
    root = write_images("set/good", {"cat": 3, "dog": 2}).parent
    write_images("set/more", {"cat": 1, "dog": 1})
    with pytest.raises(SamaError, match=r"seem to be splits, not classes; name the one"):
        load_splits(Data(train=str(root)), IMAGE)


def test_a_folder_of_files_by_split_as_training_split(write, tmp_path):
    rows = [("a", "x"), ("b", "y")]
    write("set/train.csv", [*rows, ("c", "x")])
    write("set/val.csv", rows)
    train = write("train.csv", [*rows, ("c", "x")])
    splits = load(train=train, validation=str(tmp_path / "set"))
    assert (len(splits.train), len(splits.validation)) == (3, 2)
    splits = load(train=str(tmp_path / "set"), validation=str(tmp_path / "set" / "val.csv"))
    assert (len(splits.train), len(splits.validation)) == (3, 2)


@pytest.mark.parametrize("ending", [".jfif", ".JPE", ".apng", ".tga", "", ".unknown"])
def test_images_of_every_ending_are_read(write_images, ending):
    root = write_images("set", {"cat": 3, "dog": 2})
    kind = {".tga": "TGA", ".apng": "PNG"}.get(ending, "JPEG")
    image = Image.open(root / "cat" / "0.png")
    for name in ("cat", "dog"):
        image.save(root / name / f"more{ending}", format=kind)
    splits = load_splits(Data(train=str(root)), IMAGE)
    assert len(splits.train) == 7
    assert splits.notes == []


def test_files_that_are_left_out_are_counted(write_images):
    root = write_images("set", {"cat": 3, "dog": 2})
    for name in ("a.heic", "b.heic", "notes.txt", "Thumbs.db", ".hidden"):
        (root / "cat" / name).write_text("no image")
    shutil.copy(root / "cat" / "0.png", root / "beside.png")
    (root / "empty").mkdir()
    splits = load_splits(Data(train=str(root)), IMAGE)
    assert splits.classes == ["cat", "dog"]
    assert splits.notes == [
        f"the folder {root / 'empty'} holds no image, so it is no class",
        f"left out 1 image that lies in {root} itself, in no class's folder",
        f"left out 3 of 8 files of {root} that are no images Pillow reads: 2 .heic, 1 .txt",
    ]


def test_a_clean_file_beside_others_is_not_merged_with_them(write, tmp_path):
    write("set/noisy.csv", [("a", "x"), ("b", "y")])
    write("set/clean.csv", [("a", "x"), ("b", "y")])
    with pytest.raises(SamaError, match=r"holds several splits \(clean, noisy\); name one of"):
        load(train=str(tmp_path / "set"))


# Names that mean what they say


def test_train_is_the_training_file_where_that_has_no_other_name(write):
    rows = [(f"text {i}", "xy"[i % 2]) for i in range(20)]
    path = write("mine.csv", rows)
    splits = load(train=path, meta="train", meta_per_class=3, test="train", test_fraction=0.2)
    assert (len(splits.train), len(splits.meta), len(splits.test)) == (10, 6, 4)
    with pytest.raises(ValueError, match="meta is taken out of the training split"):
        Data(train=path, meta="train")


def test_a_pair_of_one_column_is_refused():
    with pytest.raises(ValueError, match="text_pair is 'text', the column of the first text"):
        Columns(text_pair="text")


@pytest.mark.parametrize("name", ["out [v1]", "a*b?{c}", "ñ ∞", " ", "a::b", "#1%20", "~x"])
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_names_of_files_mean_themselves(write, tmp_path, name, ending):
    path = write(f"{name}/{name}.{ending}", [("a", "x"), ("b", "y")])
    (tmp_path / "link").symlink_to(tmp_path / name)
    link = tmp_path / "link" / Path(path).name
    assert load(train=path, test=str(link)).test.rows["text"] == ["a", "b"]


def test_an_exported_folder_is_training_data_and_a_table_for_others(write, tmp_path):
    splits = load(train=write("train.csv", [("a", "x"), ("b", "y")]))
    write_dataset(splits.train.rows, tmp_path / "dataset", "the card")
    again = load(train=str(tmp_path / "dataset"))
    assert again.train.rows["text"] == ["a", "b"]
    assert pandas.read_parquet(tmp_path / "dataset")["label"].tolist() == ["x", "y"]
    assert (tmp_path / "README.md").read_text() == "the card"
