"""What was trained in a run and how it fared, one line each, whatever the workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from samacli.report.numbers import Difference, difference
from samacli.training.spread import mean_and_spread

# In words, for the verdict; other methods go by their names.
_WORDS = {
    "sama": "training on the reweighted data",
    "noisy": "as given",
    "clean": "clean examples alone",
    "mixed": "both together",
}


@dataclass(frozen=True)
class Training:
    """One method (of pruning: at one keep), a value a seed; empty where there is no test split.

    keep: of pruning, the rows that are kept, as text ("0.7"); empty for all.
    """

    method: str
    keep: str
    accuracy: Sequence[float]
    macro_f1: Sequence[float]
    seconds: Sequence[float]
    samples_per_second: Sequence[float]
    peak_memory_bytes: Sequence[float]
    average_precision: Sequence[float] = ()
    auroc: Sequence[float] = ()
    recall: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.method} {self.keep}".strip()

    @property
    def ours(self) -> bool:
        return self.method == "sama"

    @property
    def mean(self) -> float:
        """Of accuracy; nan where it is not known."""
        return mean_and_spread(self.accuracy)[0]

    def lead_over(self, other: Training, tested: int) -> Difference | None:
        """Of this one's accuracy over another's, on `tested` rows."""
        return difference(self.accuracy, other.accuracy, tested)


def trainings(metrics: Mapping[str, Any]) -> list[Training]:
    """All of a run's, in the order of `metrics.json`."""
    found = []
    for name, values in metrics.get("methods", {}).items():
        by_keep = values.get("by_keep")
        if by_keep is None:
            found.append(_training(name, "", values))
        else:
            found += [_training(name, keep, of_keep) for keep, of_keep in by_keep.items()]
    return found


def in_words(training: Training, *, corrected: bool) -> str:
    """What the training was on, as the verdict says it."""
    if training.ours and corrected:
        return "training on the reweighted and corrected data"
    return _WORDS.get(training.method, training.name)


def _training(name: str, keep: str, values: Mapping[str, Any]) -> Training:
    def of(key: str) -> list[float]:
        return [value for value in values.get(key, []) if value is not None]

    noise = values.get("noise_detection", {})
    return Training(
        method=name,
        keep=keep,
        accuracy=of("accuracy"),
        macro_f1=of("macro_f1"),
        seconds=of("seconds"),
        samples_per_second=of("samples_per_second"),
        peak_memory_bytes=of("peak_memory_bytes"),
        average_precision=noise.get("average_precision", []),
        auroc=noise.get("auroc", []),
        recall=values.get("recall", {}),
    )
