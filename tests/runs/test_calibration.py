"""`reweight` with folds that calibrate P(wrong), from clean rows that carry given labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from samacli.progress import Planned, Silent, Task
from samacli.recipe import load_recipe
from samacli.runs.reweight import reweight
from tests.conftest import WORDS

NAMES = sorted(WORDS)


def write(file: Path, rows: int, seed: int, wrong: float) -> np.ndarray:
    """Texts of a few words of their class, a share with another label; which are wrong."""
    generator = np.random.default_rng(seed)
    lines = []
    mistaken = generator.random(rows) < wrong
    for bad in mistaken:
        true = int(generator.integers(3))
        given = (true + 1) % 3 if bad else true
        text = " ".join(generator.choice(WORDS[NAMES[true]], 4))
        lines.append((text, NAMES[given], NAMES[true]))
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "label", "truth"), *lines])
    return mistaken


class Heard:
    """A `Progress` that remembers what was announced, and every stretch of work that came."""

    def __init__(self) -> None:
        self.note = self.warn = Silent().note
        self.announced: list[str] = []
        self.came: list[str] = []

    def expect(self, trainings: Sequence[Planned], seconds_a_row: float | None = None) -> None:
        self.announced += [one.description for one in trainings]

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        self.came.append(description)
        with Silent().task(description, total) as task:
            yield task


@pytest.mark.parametrize("folds", [0, 2])
def test_probabilities_are_calibrated_where_folds_are(
    tiny_bert: Path, tmp_path: Path, folds: int
) -> None:
    wrong = write(tmp_path / "train.csv", 600, 0, 0.2)
    clean_wrong = write(tmp_path / "clean.csv", 550, 1, 0.2)
    recipe = load_recipe(
        None,
        [
            "training.steps=240", "training.batch_size=32",
            "training.optimizer.learning_rate=0.001",
            "reweight.baselines=[]", f"reweight.calibration_folds={folds}",
            "data.columns.true_label=truth",
        ],
        {
            "data.train": str(tmp_path / "train.csv"),
            "data.meta": str(tmp_path / "clean.csv"),
            "model.name": str(tiny_bert),
        },
    )  # fmt: skip
    output = tmp_path / "out"
    heard = Heard()
    reweight(recipe, output, device="cpu", progress=heard)
    assert len(heard.announced) == 1 + folds
    assert [one for one in heard.came if one in heard.announced] == heard.announced
    metrics = json.loads((output / "metrics.json").read_text())
    rate = metrics["noise_rate"]
    assert rate["source"] == "given labels of clean rows"
    assert rate["rows"] == 550
    assert rate["low"] < clean_wrong.mean() < rate["high"]
    page = (output / "report.html").read_text()
    assert rate["sentence"][1:] in page
    assert "ece" in metrics["noise_detection"]
    found = metrics["calibration"]
    said = pq.read_table(output / "scores.parquet")["mislabelled"].to_numpy()
    if folds == 0:
        assert not found["fitted"]
        assert "reweight.calibration_folds=5" in found["why"]
        assert "not calibrated" in page
        assert "P(wrong)" not in page
        return
    assert found["fitted"], found
    assert found["rows"] == 550
    assert found["low"] <= found["ece"] <= found["high"]
    assert said.mean() == pytest.approx(wrong.mean(), abs=0.1)
    assert said[wrong].mean() > said[~wrong].mean() + 0.2
    assert "Expected calibration error" in page
    assert "Share of wrong labels against their probability" in page
