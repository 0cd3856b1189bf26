"""What a run exports gives whoever trains on it the figure that the run tells of it.

All fail at e92cefb: it told the bilevel model's accuracy, part of whose loss is clean rows that it
did not export, and took clean rows that stand in the training set for noisy ones too.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest

import samacli
from samacli.data import load_splits
from samacli.methods.sama import _Plan, known_labels
from samacli.recipe.schema import Data
from samacli.registry import METHODS
from samacli.report.finished import FinishedRun
from samacli.report.verdict import verdict
from samacli.runs.reweight import reweight
from samacli.runs.train import train
from samacli.training.experiment import Experiment
from tests.conftest import make_texts, sentences, text_recipe, write_csv

SHARE = 0.4
SHORT = (
    "training.steps=30",
    "meta.batch_size=30",
    "meta.learning_rate=0.05",
    f"reweight.clean_share={SHARE}",
)


def relabelled(folder: Path) -> dict[str, Path]:
    """Texts of which the clean set has eight of the training rows, six of them right there."""
    texts = make_texts(folder)
    with texts["noisy"].open(newline="") as file:
        noisy = list(csv.DictReader(file))
    known = [(row["text"], row["truth"]) for row in noisy[:8]]
    write_csv(texts["clean"], [*known, *sentences(52, seed=1)])
    return texts


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> tuple[Path, Path, Any]:
    """Weights alone, of two seeds; the clean set has rows of the training set."""
    folder = tmp_path_factory.mktemp("export")
    texts = relabelled(folder)
    recipe = text_recipe(texts, tiny_bert, *SHORT, "repeats=2", "reweight.baselines=[noisy]")
    return folder, folder / "out", reweight(recipe, folder / "out", device="cpu")


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> tuple[Path, Path, Any]:
    """Labels too; none of the clean rows is a training row."""
    folder = tmp_path_factory.mktemp("corrected")
    texts = make_texts(folder)
    more = ("reweight.baselines=[noisy]", "reweight.correction=true", "reweight.prior=none")
    recipe = text_recipe(texts, tiny_bert, *SHORT, *more)
    return folder, folder / "out", reweight(recipe, folder / "out", device="cpu")


@pytest.fixture(params=["plain", "corrected"])
def finished(request: pytest.FixtureRequest) -> tuple[Path, Path, Any]:
    found: tuple[Path, Path, Any] = request.getfixturevalue(request.param)
    return found


def test_sama_train_on_the_export_gives_the_exports_figure(
    finished: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    folder, output, result = finished
    values = {"data.test": str(folder / "test.csv")}
    again = train(output / "dataset", tmp_path / "again", values=values, device="cpu")
    assert again.results.accuracy[0] == result.methods["export"].accuracy[0]
    told = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert told["clean_share"] == pytest.approx(SHARE, abs=1e-4)
    losses = [loss for _, loss, _ in again.results.curves[0]]
    assert losses == pytest.approx([x for _, x, _ in result.methods["export"].curves[0]], abs=1e-6)
    alone = train(
        output / "dataset", tmp_path / "alone", values=values, use_clean=False, device="cpu"
    )
    assert alone.rows == again.rows - 60
    assert [loss for _, loss, _ in alone.results.curves[0]] != losses


def test_clean_rows_are_exported_apart_in_the_datasets_columns(
    finished: tuple[Path, Path, Any],
) -> None:
    folder, output, result = finished
    rows = datasets.load_dataset(str(output / "dataset"), split="train")
    assert len(rows) == 400, "the clean rows are not mixed in"
    frame = pandas.read_parquet(output / "dataset")
    assert len(frame) == 400
    clean = datasets.Dataset.from_parquet(str(output / "clean.parquet"))
    assert clean.features == rows.features
    with (folder / "clean.csv").open(newline="") as file:
        given = list(csv.DictReader(file))
    assert list(clean["text"]) == [row["text"] for row in given]
    trained_on = "sama_label" if "sama_label" in rows.column_names else "label"
    for column in {"label", "truth", trained_on}:
        assert list(clean[column]) == [row["label"] for row in given]
    share = np.sum(clean["sama_weight"]) / (np.sum(clean["sama_weight"]) + frame.sama_weight.sum())
    assert share == pytest.approx(SHARE, abs=1e-4)
    told = result.metrics["artifacts"]["dataset/"]
    assert told["clean_rows"] == 60
    assert told["clean_share"] == pytest.approx(SHARE, abs=1e-4)
    assert "clean.parquet" in (output / "README.md").read_text()


def test_report_and_metrics_name_both(finished: tuple[Path, Path, Any]) -> None:
    _, output, result = finished
    told = result.metrics["artifacts"]
    assert told["model/"]["accuracy"] == result.methods["sama"].accuracy
    assert told["dataset/"]["accuracy"] == result.methods["export"].accuracy
    found = verdict(FinishedRun.read(output))
    afresh, model = found.headline.split("; ")[:2]
    assert afresh.startswith("Training afresh on dataset/")
    assert afresh.rpartition(": ")[2].startswith(f"{np.mean(told['dataset/']['accuracy']):.3f}")
    assert model.startswith("the model in model/: ")
    assert model.rpartition(": ")[2].startswith(f"{np.mean(told['model/']['accuracy']):.3f}")


@pytest.mark.parametrize("more", ["reweight.baselines=[]", "reweight.measure_export=false"])
def test_an_export_that_is_not_measured_is_said_to_be(
    more: str, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    recipe = text_recipe(texts, tiny_bert, *SHORT, "training.steps=4", more)
    result = reweight(recipe, tmp_path / "out", device="cpu")
    assert "export" not in result.methods
    assert result.metrics["artifacts"]["dataset/"]["accuracy"] is None
    headline = verdict(FinishedRun.read(tmp_path / "out")).headline
    assert headline.endswith("training afresh on dataset/ was not measured.")


def test_rows_for_a_trainer_have_the_clean_rows_share(finished: tuple[Path, Path, Any]) -> None:
    _, output, _ = finished
    for place in (output, output / "dataset"):
        rows = samacli.rows_to_train_on(place)
        clean = datasets.Dataset.from_parquet(str(output / "clean.parquet"))
        weights, texts = np.array(rows["sama_weight"]), np.array(rows["text"])
        of_clean = np.isin(texts, clean["text"])
        assert weights[of_clean].sum() / weights.sum() == pytest.approx(SHARE, abs=1e-3)
        # Spread over as many rows as it takes, none of them heavy.
        assert weights[of_clean].max() < 1.5
        true = dict(zip(clean["text"], clean["label"], strict=True))
        column = "sama_label" if "sama_label" in rows.column_names else "label"
        pairs = zip(rows["text"], rows[column], strict=True)
        assert all(true.get(text, label) == label for text, label in pairs)


# clean rows that also stand in the training set


def test_known_rows_are_no_noisy_rows(plain: tuple[Path, Path, Any]) -> None:
    _, output, result = plain
    rows = datasets.load_dataset(str(output / "dataset"), split="train")
    assert list(rows["sama_clean"]) == [*range(8), *[None] * 392]
    assert list(rows["sama_weight"][:8]) == [0] * 8
    assert np.mean(rows["sama_weight"][8:]) == pytest.approx(1, abs=1e-4)
    # Their label is the clean one, that of the others as given; the input is as it came.
    assert list(rows["sama_label"][:8]) == list(rows["truth"][:8])
    assert list(rows["sama_label"][8:]) == list(rows["label"][8:])
    assert [a != b for a, b in zip(rows["label"], rows["truth"], strict=True)][:8].count(True) == 2
    scores = pq.read_table(output / "scores.parquet").to_pydict()
    assert scores["index"] == list(range(400))
    assert scores["clean_row"] == list(rows["sama_clean"])
    wrong = [a != b for a, b in zip(rows["label"], rows["truth"], strict=True)]
    assert scores["mislabelled"][:8] == [float(x) for x in wrong[:8]]
    with (output / "suspects.csv").open(newline="") as file:
        assert not {int(line["index"]) for line in csv.DictReader(file)} & set(range(8))
    assert result.metrics["overlaps"] == {"meta, train": {"meta": 8, "train": 8}}
    clean = datasets.Dataset.from_parquet(str(output / "clean.parquet"))
    assert list(clean["sama_clean"]) == list(range(60))


def test_the_base_level_sees_none_of_them_among_the_noisy(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = text_recipe(relabelled(tmp_path), tiny_bert, *SHORT)
    experiment = Experiment.prepare(recipe, device="cpu")
    plan = _Plan(experiment, recipe.meta, 0, ["loss"], recipe.reweight, None, experiment.steps)
    batches = plan.base_batches()
    seen = {int(i) for _ in range(60) for i in next(batches)["index"]}
    assert seen == set(range(8, 400))


def test_given_labels_of_training_copies_tell_how_labels_go_wrong(
    tmp_path: Path, tiny_bert: Path
) -> None:
    noisy = [(f"ball day {i}", ["sport", "money", "film"][i % 3]) for i in range(30)]
    # The first clean row stands in the training set twice more, with different labels.
    noisy += [("ball day 0", "money"), ("ball day 0", "sport")]
    train_file = write_csv(tmp_path / "t.csv", noisy)
    clean = [("ball day 0", "sport"), ("ball day 1", "money"), ("new", "film"), ("more", "sport")]
    meta = write_csv(tmp_path / "m.csv", clean)
    texts = {"noisy": train_file, "clean": meta, "test": write_csv(tmp_path / "s.csv", clean[2:])}
    recipe = text_recipe(texts, tiny_bert, *SHORT, "data.columns.true_label=null")
    experiment = Experiment.prepare(recipe, device="cpu")
    labels = known_labels(experiment)
    names = experiment.splits.classes
    told = sorted(
        (int(of), names[given])
        for of, given in zip(labels.told_of.tolist(), labels.told.tolist(), strict=True)
    )
    assert told == [(0, "money"), (0, "sport"), (0, "sport"), (1, "money")]
    assert (labels.given < 0).nonzero()[:, 0].tolist() == [0, 1, 30, 31]


def test_every_pair_of_splits_is_compared(tmp_path: Path) -> None:
    rows = {
        "train": [(f"t{i}", "a" if i % 2 else "b") for i in range(10)],
        "meta": [("t1", "a"), ("t2", "a"), ("m", "b")],
        "validation": [("t3", "a"), ("v", "b"), ("x", "a")],
        "test": [("t4", "b"), ("t5", "a"), ("m", "b"), ("v", "b"), ("y", "a")],
    }
    files = {name: str(write_csv(tmp_path / f"{name}.csv", part)) for name, part in rows.items()}
    splits = load_splits(Data(**files), "text-classification")
    assert splits.warnings == [
        "1 of 3 validation rows also occurs in the test split (same text)",
        "1 of 3 validation rows also occurs in the training split (same text)",
        "1 of 5 test rows also occurs in the meta split (same text)",
        "2 of 5 test rows also occur in the training split (same text)",
    ]
    assert (
        "2 of 3 meta rows also occur in the training split (same text): its 2 rows with them count "
        "as clean, not as noisy; the given label of 1 differs from the clean one"
    ) in splits.notes


def test_the_export_is_a_method_like_others() -> None:
    assert METHODS["export"].uses_clean
