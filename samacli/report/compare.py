"""Finished runs side by side: what they gave, what they took, and where their recipes differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samacli.errors import SamaError
from samacli.recipe.load import flattened
from samacli.report.finished import read_metrics, read_recipe
from samacli.report.trainings import beside, trainings

# Where a run lay and what it is called makes no difference to it.
_UNTOLD = {"description"}


@dataclass(frozen=True)
class Compared:
    """One run.

    accuracy, macro_f1: of its own result, one a seed. best_rival: the best of what ran beside it,
    by mean accuracy, with its accuracies. average_precision, auroc: of finding wrong labels.
    seconds: of the whole run. peak_memory_bytes: at most.
    """

    directory: str
    workflow: str
    seeds: list[int]
    result: str
    accuracy: list[float]
    macro_f1: list[float]
    best_rival: str | None
    rival_accuracy: list[float]
    average_precision: float | None
    auroc: float | None
    seconds: float | None
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class Comparison:
    """differences: recipe keys whose values are not the same in all runs, with each run's value."""

    runs: list[Compared]
    differences: dict[str, list[Any]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(directories: Sequence[Path]) -> Comparison:
    """Runs of any command that leaves `metrics.json` and `recipe.yaml`.

    Raises:
        SamaError: fewer than two directories, or one that holds no finished run.
    """
    if len(directories) < 2:
        raise SamaError("compare takes two runs or more; name another directory")
    recipes = [flattened(read_recipe(directory)[1]) for directory in directories]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe if key not in _UNTOLD)
    differences = {}
    for key in keys:
        values = [recipe.get(key) for recipe in recipes]
        if any(value != values[0] for value in values):
            differences[key] = values
    return Comparison([_compared(directory) for directory in directories], differences)


@dataclass(frozen=True)
class Gain:
    """A run beside an earlier one of the same test rows.

    before: the earlier run's directory. method: whose accuracy. accuracy: before and now, means
    over seeds. rows: test rows. error: about the largest standard error that so many rows leave the
    difference, if those that both get right were independent; they mostly are not, and it is less.
    changed: recipe keys outside of `data.meta` that differ.
    """

    before: str
    method: str
    accuracy: tuple[float, float]
    rows: int
    error: float
    changed: list[str]

    @property
    def sentence(self) -> str:
        first, now = self.accuracy
        others = f"; {', '.join(self.changed)} differ too" if self.changed else ""
        return (
            f"{self.method} on the same {self.rows:,} test rows: {first:.3f} in {self.before}, "
            f"{now:.3f} now, {now - first:+.3f} (two standard errors: {2 * self.error:.3f} or "
            f"less){others}"
        )


def gain(before: Path, now: Path) -> Gain | None:
    """What a run gained over an earlier one; None where that cannot be told: the earlier is no
    finished run, or one of the two was not tested, or on other rows.

    Raises:
        SamaError: `now` is no finished run.
    """
    metrics = read_metrics(now)
    try:
        first, own = _compared(before), _compared(now)
        then = read_metrics(before)
        changed = compare([before, now]).differences
    except SamaError:
        return None
    test = (metrics.get("fingerprints") or {}).get("test")
    rows = int((metrics.get("rows") or {}).get("test") or 0)
    same = test is not None and test == (then.get("fingerprints") or {}).get("test")
    if not (same and rows and first.result == own.result and first.accuracy and own.accuracy):
        return None
    means = tuple(sum(run.accuracy) / len(run.accuracy) for run in (first, own))
    spread = sum(mean * (1 - mean) for mean in means) / rows
    others = [key for key in changed if not key.startswith("data.meta")]
    return Gain(str(before), own.result, (means[0], means[1]), rows, spread**0.5, others)


def _compared(directory: Path) -> Compared:
    metrics = read_metrics(directory)
    found = trainings(metrics)
    own = next((training for training in found if training.ours), found[0] if found else None)
    if own is None:
        raise SamaError(f"'{directory}' tells of no training in its metrics.json; run it again")
    rivals = beside(own, found) if own.ours else []
    best = max(rivals, key=lambda training: training.mean, default=None)
    noise = metrics.get("noise_detection") or {}
    seconds = metrics.get("seconds", sum(own.seconds) if own.seconds else None)
    memory = metrics.get("peak_memory_bytes", max(own.peak_memory_bytes, default=None))
    return Compared(
        directory=str(directory),
        workflow=str(metrics.get("workflow")),
        seeds=list(metrics.get("seeds", [])),
        result=own.name,
        accuracy=list(own.accuracy),
        macro_f1=list(own.macro_f1),
        best_rival=None if best is None else best.name,
        rival_accuracy=[] if best is None else list(best.accuracy),
        average_precision=noise.get("average_precision"),
        auroc=noise.get("auroc"),
        seconds=seconds,
        peak_memory_bytes=None if memory is None else int(memory),
    )
