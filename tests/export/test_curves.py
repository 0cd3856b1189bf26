"""Learning curves are thinned out without losing their level, or the meta steps between."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from samacli.export.training_curves import thinned, write_learning


def test_a_long_curve_keeps_its_mean_and_its_last_step() -> None:
    losses = np.random.default_rng(0).uniform(0, 3, 1200)
    meta = [2 * float(loss) if i % 4 == 0 else math.nan for i, loss in enumerate(losses)]
    curve = list(zip(range(1, 1201), losses.tolist(), meta, strict=True))
    few = thinned(curve, 100)
    assert len(few) == 100
    assert few[-1][0] == 1200
    assert np.mean([loss for _, loss, _ in few]) == pytest.approx(losses.mean())
    assert np.mean([meta for _, _, meta in few]) == pytest.approx(2 * losses[::4].mean())
    assert thinned(curve[:50], 100) == curve[:50]


def test_the_file_has_a_line_a_point(tmp_path: Path) -> None:
    curves = {"noisy": [[(1, 0.5, math.nan)], [(1, 0.25, math.nan)]], "sama": [[(1, 0.5, 0.125)]]}
    write_learning(tmp_path / "curves" / "learning.csv", curves, 3)
    with (tmp_path / "curves" / "learning.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["method", "seed", "step", "loss", "meta_loss"],
        ["noisy", "3", "1", "0.5", ""],
        ["noisy", "4", "1", "0.25", ""],
        ["sama", "3", "1", "0.5", "0.125"],
    ]
