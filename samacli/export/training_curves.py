"""`curves/`: how training went, and what the learnt weight depends on, as CSV."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samacli.export.escape import write_csv

if TYPE_CHECKING:
    from samacli.bilevel.weight_function import WeightFunction

LEARNING_FILE = "curves/learning.csv"
WEIGHT_FILE = "curves/weight_by_loss.csv"
_POINTS = 120

Curve = Sequence[tuple[int, float, float]]


def thinned(curve: Curve, points: int = _POINTS) -> list[tuple[int, float, float]]:
    """At most so many points, each the mean of a stretch of steps: (last step, loss, meta loss).

    The meta loss is nan over a stretch without a meta step.
    """
    if len(curve) <= points:
        return list(curve)
    stretches = np.array_split(np.array(curve, dtype=np.float64), points)
    return [(int(s[-1, 0]), float(s[:, 1].mean()), _mean_known(s[:, 2])) for s in stretches]


def write_learning(path: Path, curves: Mapping[str, Sequence[Curve]], first_seed: int) -> None:
    """Base and meta loss of each method, a curve a seed from `first_seed` up, thinned out."""

    def lines() -> Iterator[Sequence[object]]:
        for method, of_method in curves.items():
            for seed, curve in enumerate(of_method, start=first_seed):
                for step, loss, meta_loss in thinned(curve):
                    yield method, seed, step, _figure(loss), _figure(meta_loss)

    path.parent.mkdir(exist_ok=True)
    write_csv(path, ["method", "seed", "step", "loss", "meta_loss"], lines())


def write_weight_functions(
    path: Path, functions: Sequence[WeightFunction], classes: Sequence[str], first_seed: int
) -> None:
    """Weight against loss of each class and seed; nothing where the loss is not a feature."""
    if not functions:
        return

    def lines() -> Iterator[Sequence[object]]:
        for seed, function in enumerate(functions, start=first_seed):
            for name, weights in zip(classes, function.weight, strict=True):
                for loss, weight in zip(function.loss, weights, strict=True):
                    if math.isfinite(weight):
                        yield seed, name, _figure(loss), _figure(weight)

    path.parent.mkdir(exist_ok=True)
    write_csv(path, ["seed", "class", "loss", "weight"], lines())


def _mean_known(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _figure(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else ""
