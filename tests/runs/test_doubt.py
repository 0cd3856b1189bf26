"""No probability of a wrong label where the run's own evidence is that nothing was learnt.

At e92cefb every suspect had one, whatever the model had learnt.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from samacli.bilevel.doubt import better_than_frequencies, doubt_about
from samacli.report import build_report
from samacli.report.finished import FinishedRun
from samacli.report.inspect import inspect
from samacli.report.verdict import verdict
from samacli.runs.reweight import reweight
from tests.conftest import text_recipe


def believed(true: np.ndarray, right: float, seed: int, classes: int) -> np.ndarray:
    """Probabilities by a model that is right so often, and sure of it either way."""
    generator = np.random.default_rng(seed)
    guess = np.where(
        generator.random(len(true)) < right, true, generator.integers(0, classes, len(true))
    )
    return np.eye(classes)[guess] * 0.9 + 0.1 / classes


@pytest.mark.parametrize("classes", [2, 5, 20])
@pytest.mark.parametrize("rows", [12, 60, 600])
def test_guessing_seldom_passes_for_knowledge(classes: int, rows: int) -> None:
    frequency = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    passed = []
    for seed in range(200):
        true = np.random.default_rng(seed + 1000).choice(classes, rows, p=frequency)
        passed.append(better_than_frequencies(believed(true, 0.0, seed, classes), true))
        # The most frequent class alone is no knowledge either.
        always = np.tile(frequency, (rows, 1))
        assert not better_than_frequencies(always, np.sort(true)) or rows < 20
    assert np.mean(passed) <= 0.06


@pytest.mark.parametrize(("rows", "right"), [(25, 0.7), (60, 0.5), (600, 0.2)])
def test_knowledge_is_seen(rows: int, right: float) -> None:
    found = []
    for seed in range(50):
        true = np.random.default_rng(seed).integers(0, 4, rows)
        found.append(better_than_frequencies(believed(true, right, seed, 4), true))
    assert np.mean(found) > 0.9


def test_a_ranking_the_wrong_way_round_is_no_evidence() -> None:
    true = np.arange(60) % 3
    knows = believed(true, 0.9, 0, 3)
    wrong = np.arange(20) < 5
    assert doubt_about(knows, true, np.where(wrong, 0.8, 0.2), wrong) is None
    why = doubt_about(knows, true, np.where(wrong, 0.2, 0.8), wrong)
    assert why is not None
    assert "AUROC 0.00" in why
    assert doubt_about(knows, true, np.zeros(4), wrong[:4]) is None, "four rows tell nothing"


def test_a_run_that_learnt_nothing_gives_no_probability(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    settings = ("training.steps=2", "training.optimizer.learning_rate=1e-9", "reweight.prior=none")
    # Weights that differ, so that there are suspects: fitted ones stay even after two steps.
    stepwise = ("reweight.baselines=[]", "meta.reweighter=stepwise")
    recipe = text_recipe(texts, tiny_bert, *settings, *stepwise)
    result = reweight(recipe, tmp_path / "out", device="cpu")
    assert "no better than the frequencies" in result.metrics["no_probability"]
    scores = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert scores["mislabelled"].null_count == len(scores)
    with (tmp_path / "out" / "suspects.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines
    assert {line["probability"] for line in lines} == {""}
    run = FinishedRun.read(tmp_path / "out")
    assert any(
        point.startswith("Which labels are wrong is not known") for point in verdict(run).points
    )
    page = build_report(tmp_path / "out").read_text()
    assert "<dt>P(wrong)</dt><dd>–</dd>" in page
    assert "more probably wrong" not in page
    assert inspect(tmp_path / "out", 0).mislabelled is None
    # What ranks the rows instead is measured as that: the weights.
    told = json.loads((tmp_path / "out" / "metrics.json").read_text())["noise_detection"]
    assert 0 <= told["auroc"] <= 1
