"""`reweight` from CSV files to everything it leaves behind, and what reads it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from samacli.recipe import Recipe, load_recipe
from samacli.runs.reweight import reweight
from tests.conftest import text_recipe


def recipe(texts: dict[str, Path], model: Path, *overrides: str) -> Recipe:
    return text_recipe(
        texts,
        model,
        "training.steps=160",
        "meta.batch_size=30",
        "meta.learning_rate=0.05",
        "meta.warmup=0.35",
        "meta.weight_decay=0.2",
        "meta.standardize=true",
        *overrides,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> tuple[Path, Any]:
    """One run over two seeds with every baseline, shared by the tests that only read it."""
    from tests.conftest import make_texts

    folder = tmp_path_factory.mktemp("reweight")
    texts = make_texts(folder)
    chosen = recipe(texts, tiny_bert, "repeats=2")
    return folder / "out", reweight(chosen, folder / "out", device="cpu")


def test_every_method_is_measured_once_a_seed(finished: tuple[Path, Any]) -> None:
    output, _ = finished
    metrics = json.loads((output / "metrics.json").read_text())
    assert set(metrics["methods"]) == {"noisy", "clean", "mixed", "no-meta-steps", "sama", "export"}
    assert metrics["seeds"] == [0, 1]
    for method in metrics["methods"].values():
        assert len(method["accuracy"]) == len(method["macro_f1"]) == 2
        assert all(0 <= value <= 1 for value in method["accuracy"])
        recall = [method["recall"][name] for name in metrics["class_rows"]]
        # 90 test rows in three classes; accuracy is their recall, each by its share.
        assert np.shape(recall) == (3, 2)
        assert np.all(np.min(recall, axis=0) <= method["accuracy"])
        assert np.all(np.max(recall, axis=0) >= method["accuracy"])
    assert sum(metrics["class_rows"].values()) == metrics["rows"]["train"]
    assert metrics["peak_memory_bytes"] > 0
    assert len(metrics["samples_per_second"]) == 2
    assert metrics["seconds"] > 0


def test_wrong_labels_are_found_and_the_figures_are_scikit_learns(
    finished: tuple[Path, Any],
) -> None:
    output, _ = finished
    rows = datasets.load_dataset(str(output / "dataset"), split="train")
    wrong = np.array(rows["label"]) != np.array(rows["truth"])
    assert wrong.mean() == 0.25
    scores = pq.read_table(output / "scores.parquet").to_pydict()
    suspicion = np.array(scores["mislabelled"])
    noise = json.loads((output / "metrics.json").read_text())["noise_detection"]
    assert noise["average_precision"] == pytest.approx(
        average_precision_score(wrong, suspicion), abs=1e-3
    )
    assert noise["auroc"] == pytest.approx(roc_auc_score(wrong, suspicion), abs=1e-3)
    assert noise["average_precision"] > 0.6, "chance is 0.25"


def test_the_dataset_keeps_every_column_in_input_order(finished: tuple[Path, Any]) -> None:
    output, _ = finished
    rows = datasets.load_dataset(str(output / "dataset"), split="train")
    assert rows.column_names == ["text", "label", "truth", "sama_weight"]
    with (output.parent / "noisy.csv").open(newline="") as file:
        given = list(csv.DictReader(file))
    assert list(rows["text"]) == [row["text"] for row in given]
    assert rows.features["sama_weight"].dtype == "float32"
    assert np.mean(rows["sama_weight"]) == pytest.approx(1.0, abs=1e-4)
    assert min(rows["sama_weight"]) >= 0


def test_scores_have_a_row_for_each_input_row(finished: tuple[Path, Any]) -> None:
    output, _ = finished
    scores = pq.read_table(output / "scores.parquet").to_pydict()
    assert list(scores) == [
        "index",
        "given_label",
        "prediction",
        "loss",
        "uncertainty",
        "weight",
        "slope",
        "value",
        "mislabelled",
    ]
    rows = datasets.load_dataset(str(output / "dataset"), split="train")
    assert scores["index"] == list(range(400))
    assert scores["given_label"] == list(rows["label"])
    np.testing.assert_allclose(scores["weight"], rows["sama_weight"])
    assert set(scores["prediction"]) <= {"sport", "money", "film"}


def test_suspects_are_mostly_wrong_and_get_their_true_label(finished: tuple[Path, Any]) -> None:
    output, result = finished
    rows = datasets.load_dataset(str(output / "dataset"), split="train")
    with (output / "suspects.csv").open(newline="") as file:
        suspects = list(csv.DictReader(file))
    assert len(suspects) == result.suspects > 0
    probabilities = [float(suspect["probability"]) for suspect in suspects]
    assert probabilities == sorted(probabilities, reverse=True)
    assert min(probabilities) > 0.5
    for suspect in suspects:
        row = rows[int(suspect["index"])]
        assert suspect["text"] == row["text"]
        assert suspect["given_label"] == row["label"] != suspect["suggested_label"]
    first = suspects[:20]
    right = sum(s["suggested_label"] == rows[int(s["index"])]["truth"] for s in first)
    assert right >= 0.7 * len(first)


def test_the_model_works_in_a_pipeline(finished: tuple[Path, Any]) -> None:
    from transformers import pipeline

    output, _ = finished
    classify = pipeline("text-classification", str(output / "model"), device="cpu")
    answers = classify(["ball goal team match", "bank stock trade price"])
    assert [answer["label"] for answer in answers] == ["sport", "money"]


def test_the_resolved_recipe_repeats_the_run(
    finished: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, first = finished
    monkeypatch.chdir(tmp_path)  # its paths hold from anywhere
    again = reweight(load_recipe(str(output / "recipe.yaml")), tmp_path / "again", device="cpu")
    for name, method in first.methods.items():
        assert again.methods[name].accuracy == method.accuracy
    one, two = (pq.read_table(path / "scores.parquet") for path in (output, tmp_path / "again"))
    assert one.equals(two)


def test_correction_adds_labels_and_train_uses_them(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    from samacli.runs.evaluate import evaluate
    from samacli.runs.train import train

    chosen = recipe(texts, tiny_bert, "reweight.correction=true", "reweight.baselines=[]")
    result = reweight(chosen, tmp_path / "out", device="cpu")
    assert set(result.methods) == {"sama"}
    rows = datasets.load_dataset(str(tmp_path / "out" / "dataset"), split="train")
    truth, given = np.array(rows["truth"]), np.array(rows["label"])
    # That corrections are learnt is tested where the model is sure of itself (tests/training).
    assert set(rows["sama_label"]) <= set(truth)
    assert (np.array(rows["sama_label"]) == truth).mean() >= (given == truth).mean()

    trained = train(
        tmp_path / "out" / "dataset",
        tmp_path / "final",
        values={"data.test": str(texts["test"])},
        device="cpu",
    )
    assert trained.name == "weighted by sama_weight"
    measured = evaluate(tmp_path / "final", str(texts["test"]), device="cpu")
    assert trained.results.accuracy == [measured.accuracy]


def test_integer_labels_stay_integers(
    tiny_bert: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    names = ["film", "money", "sport"]
    for name, file in texts.items():
        with file.open(newline="") as source:
            rows = list(csv.DictReader(source))
        with (tmp_path / f"{name}.jsonl").open("w") as target:
            for row in rows:
                record = {"text": row["text"], "label": names.index(row["label"])}
                target.write(json.dumps(record) + "\n")
    files = {name: tmp_path / f"{name}.jsonl" for name in texts}
    chosen = recipe(
        files,
        tiny_bert,
        "reweight.correction=true",
        "reweight.baselines=[]",
        "training.steps=5",
        "data.columns.true_label=null",
    )
    reweight(chosen, tmp_path / "out", device="cpu")
    rows = datasets.load_dataset(str(tmp_path / "out" / "dataset"), split="train")
    assert rows.features["sama_label"].dtype == "int64"
    assert set(rows["sama_label"]) <= {0, 1, 2}


def test_without_a_test_split_the_data_are_still_reweighted(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    chosen = recipe(texts, tiny_bert, "training.steps=3")
    chosen = chosen.model_copy(update={"data": chosen.data.model_copy(update={"test": None})})
    result = reweight(chosen, tmp_path / "out", device="cpu")
    assert set(result.methods) == {"sama"}
    assert result.methods["sama"].accuracy == []
    assert (tmp_path / "out" / "suspects.csv").is_file()
