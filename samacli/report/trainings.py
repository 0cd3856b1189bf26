"""What was trained in a run and how it fared, one line each, whatever the workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from samacli.export.results import Results
from samacli.registry import OURS
from samacli.report.numbers import Lead
from samacli.training.difference import difference
from samacli.training.spread import mean_and_spread

# In words, for the verdict; other methods go by their names.
_WORDS = {
    "sama": "the model in model/",
    "noisy": "as given",
    "clean": "clean examples alone",
    "mixed": "both together",
    "no-meta-steps": "the same without meta steps",
}


@dataclass
class Training(Results):
    """The results of one method (of pruning: at one keep).

    keep: of pruning, the rows that are kept, as text ("0.7"); empty for all.
    """

    method: str = ""
    keep: str = ""

    @property
    def name(self) -> str:
        return f"{self.method} {self.keep}".strip()

    @property
    def ours(self) -> bool:
        """Whether it is a result of the run, not what that is compared with."""
        return self.method in OURS

    @property
    def mean(self) -> float:
        """Of accuracy; nan where it is not known."""
        return mean_and_spread(self.accuracy)[0]

    def recall_of(self, name: str) -> list[float]:
        """Of a class, one a seed that has it."""
        return [recall[name] for recall in self.recall if name in recall]

    def lead_over(self, other: Training, tested: int, among: int = 1) -> Lead | None:
        """Of this one's, of ours, over another's accuracy on `tested` rows; one of so many."""
        error = other.paired_errors.get(self.method)
        found = difference(self.accuracy, other.accuracy, tested, error)
        return None if found is None else Lead(found, among)


def trainings(metrics: Mapping[str, Any]) -> list[Training]:
    """All of a run's, in the order of `metrics.json`."""
    found = []
    for name, values in metrics.get("methods", {}).items():
        for keep, of_keep in (values.get("by_keep") or {"": values}).items():
            training = Training.from_dict(of_keep)
            training.method, training.keep = name, keep
            found.append(training)
    return found


def beside(ours: Training, found: Sequence[Training]) -> list[Training]:
    """What was measured of the others on all rows, or at the same keep as ours."""
    return [t for t in found if not t.ours and t.accuracy and t.keep in ("", ours.keep)]


def in_words(training: Training, *, corrected: bool) -> str:
    """What the training was on, as the verdict says it."""
    if training.method == "export":
        return f"training afresh on dataset/, the reweighted {'and corrected ' * corrected}data"
    return _WORDS.get(training.method, training.name)
