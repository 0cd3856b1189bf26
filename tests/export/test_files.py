"""The files themselves, read back by others."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samacli.export import dataset as export_dataset
from samacli.export.dataset import dataset_card, label_values, with_columns, write_dataset
from samacli.export.metrics import class_names, write_metrics, write_scores
from samacli.export.suspects import Suspects, write_suspects


@pytest.fixture
def rows() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": [f"t{i}" for i in range(10)], "label": [0, 1] * 5})


def card() -> str:
    return dataset_card(
        title="T", task="text-classification", facts=["f"], columns={"w": "m"}, version="0"
    )


def test_a_dataset_in_several_shards_keeps_its_order(
    tmp_path: Path, rows: datasets.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_dataset, "_SHARD_BYTES", rows.data.nbytes // 3)
    write_dataset(rows.select([9, 7, 5, 3, 1]), tmp_path / "dataset", card())
    assert len(list((tmp_path / "dataset").glob("*.parquet"))) > 1
    loaded = datasets.load_dataset(str(tmp_path / "dataset"), split="train")
    assert list(loaded["text"]) == ["t9", "t7", "t5", "t3", "t1"]


def test_two_runs_of_one_name_are_not_mixed_up(tmp_path: Path, rows: datasets.Dataset) -> None:
    # load_dataset caches by more than the folder's name only where the card declares no config.
    for count in (3, 5, 4):
        folder = tmp_path / str(count) / "dataset"
        write_dataset(rows.select(range(count)), folder, card())
        assert len(datasets.load_dataset(str(folder), split="train")) == count
    write_dataset(rows.select(range(7)), tmp_path / "3" / "dataset", card())
    assert len(datasets.load_dataset(str(tmp_path / "3" / "dataset"), split="train")) == 7


def test_an_earlier_runs_weights_are_replaced(rows: datasets.Dataset) -> None:
    ones = np.ones(10, dtype=np.float32)
    once = with_columns(rows, {"sama_weight": (ones, datasets.Value("float32"))})
    twice = with_columns(once, {"sama_weight": (2 * ones, datasets.Value("float32"))})
    assert twice.column_names == ["text", "label", "sama_weight"]
    assert set(twice["sama_weight"]) == {2.0}


def test_corrected_labels_are_of_the_given_labels_kind() -> None:
    ids = np.array([1, 0])
    values, feature = label_values(ids, ["a", "b"], datasets.ClassLabel(names=["a", "b"]))
    assert (list(values), feature.names) == ([1, 0], ["a", "b"])
    values, feature = label_values(ids, ["3", "7"], datasets.Value("int16"))
    assert (list(values), feature.dtype) == ([7, 3], "int16")
    assert label_values(ids, ["a", "b"], datasets.Value("string"))[0] == ["b", "a"]


def test_scores_name_their_classes_and_leave_gaps_empty(tmp_path: Path) -> None:
    columns = {"index": np.arange(3), "given_label": class_names(np.array([1, -1, 0]), ["a", "b"])}
    write_scores(tmp_path / "scores.parquet", columns)
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table["given_label"].to_pylist() == ["b", None, "a"]
    assert pa.types.is_dictionary(table["given_label"].type)


def suspects_file(
    folder: Path,
    rows: datasets.Dataset,
    *,
    weight_of_the_third: float,
    probability: np.ndarray | None = None,
) -> tuple[int, list[str]]:
    """How many suspects ten rows of two classes have, and the lines of the file."""
    suspects = Suspects(
        index=np.arange(10) + 100,
        given=np.array([0, 1, 0, 1, 0, 1, 0, 1, -1, 0]),
        suggested=np.array([1, 1, 1, 0, 0, 0, 1, 1, 0, 1]),
        weight=np.array([0.2, 0.1, weight_of_the_third, 0.1, 0.1, 1.5, 0.3, 0.1, 0.0, 0.2]),
        loss=np.array([1.0, 9.0, 2.0, 3.0, 9.0, 9.0, 1.0, 9.0, np.nan, 0.5]),
        probability=probability,
    )
    file = folder / "suspects.csv"
    count = write_suspects(file, suspects, rows, ["no", "yes"], text_columns=["text"])
    return count, file.read_text().splitlines()


def test_suspects_are_the_light_rows_that_the_model_disputes(
    tmp_path: Path, rows: datasets.Dataset
) -> None:
    count, lines = suspects_file(tmp_path, rows, weight_of_the_third=0.2)
    assert count == 5
    assert [line.split(",")[0] for line in lines[1:]] == ["103", "102", "100", "109", "106"]
    assert lines[1] == "103,0.1000,yes,no,3.0000,t3"


def test_known_probabilities_decide_who_is_suspect_and_in_which_order(
    tmp_path: Path, rows: datasets.Dataset
) -> None:
    probability = np.array([0.9, 0.99, 0.95, 0.9, 0.8, 0.51, 0.5, 0.1, np.nan, 0.2])
    count, lines = suspects_file(tmp_path, rows, weight_of_the_third=1.9, probability=probability)
    assert count == 4
    assert lines[0] == "index,probability,weight,given_label,suggested_label,loss,text"
    assert [line.split(",")[0] for line in lines[1:]] == ["102", "103", "100", "105"]
    assert lines[1] == "102,0.9500,1.9000,no,yes,2.0000,t2"


def test_metrics_are_strict_json(tmp_path: Path) -> None:
    write_metrics(tmp_path / "metrics.json", {"a": [float("nan"), 1.0], "b": {"c": float("inf")}})
    text = (tmp_path / "metrics.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
        "a": [None, 1.0],
        "b": {"c": None},
    }
