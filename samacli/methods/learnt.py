"""Whether anything was learnt at all; a sentence and what to do about it where it was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from samacli.bilevel.scored import Summary
from samacli.data.overlap import equal_rows
from samacli.training.experiment import Experiment

Curve = Sequence[tuple[int, float, float]]


class Measured(Protocol):
    """Of one method, a value a seed: test accuracy, recall of each class, learning curve."""

    @property
    def accuracy(self) -> list[float]: ...
    @property
    def recall(self) -> list[dict[str, float]]: ...
    @property
    def curves(self) -> list[list[tuple[int, float, float]]]: ...


_FALLEN = 0.98  # of the first tenth's mean loss: what is above has not fallen
_FEWEST = 20  # steps that have tenths to compare
# Mean recall over that of any constant answer, 1 / classes: what is below follows no class.
_RECALL = 1.5
# (Σ w)² / (n Σ w²): the part of the rows that would have as much spread if all counted alike.
_ALIKE = 0.999


def not_learnt(
    experiment: Experiment, methods: Mapping[str, Measured], summary: Summary
) -> list[str]:
    """What in a run's results says that nothing was learnt; empty where all is well."""
    told = []
    test = experiment.splits.test
    training = experiment.recipe.training
    mend = (
        f"take more steps (--epochs, or training.steps, which is {experiment.steps}) or another "
        f"learning rate (--lr, which is {training.optimizer.alone.learning_rate:g})"
    )
    if test is not None:
        counts = np.bincount(test.labels[test.labels >= 0])
        share, largest = counts.max() / counts.sum(), experiment.splits.classes[counts.argmax()]
        flat = [name for name, found in methods.items() if _is_constant(found, counts)]
        if flat:
            told.append(
                f"{_listed(flat)} learnt nothing: no better on the test rows than always to say "
                f"'{largest}' ({share:.3f}); {mend}"
            )
    flat = [
        name for name, found in methods.items() if found.curves and all(map(_flat, found.curves))
    ]
    if flat:
        told.append(f"the training loss of {_listed(flat)} did not fall; {mend}")
    if (same := _contradictions(experiment)) > 0:
        told.append(
            f"the clean set contradicts itself: {same:,} of its rows have another label than a row "
            "with the same content; check them, since all is judged by these rows"
        )
    weights = summary.weight[summary.weight > 0]
    if len(weights) > 1 and weights.sum() ** 2 / (len(weights) * (weights**2).sum()) > _ALIKE:
        told.append(
            "the weights are all alike, so that the reweighted data are the data as they were: the "
            "clean rows told no rows from others; give more of them (`sama label` says which)"
        )
    return told


def _is_constant(found: Measured, counts: np.ndarray) -> bool:
    """Whether each seed answers as well as one answer for all would, by accuracy and by class."""
    rows, share = counts.sum(), counts.max() / counts.sum()
    error = np.sqrt(share * (1 - share) / rows)
    if not found.accuracy:
        return False
    recalls = [np.mean([r for r in one.values() if not np.isnan(r)]) for one in found.recall]
    most = _RECALL / max(2, (counts > 0).sum())
    return max(found.accuracy) <= share + error and all(recall <= most for recall in recalls)


def _flat(curve: Curve) -> bool:
    losses = np.array([loss for _, loss, _ in curve])
    losses = losses[np.isfinite(losses)]
    tenth = len(losses) // 10
    if len(losses) < _FEWEST:
        return False
    return bool(losses[-tenth:].mean() > _FALLEN * losses[:tenth].mean())


def _contradictions(experiment: Experiment) -> int:
    """Clean rows of a content that has several labels there."""
    clean = experiment.splits.meta
    if clean is None:
        return 0
    counts, torn = equal_rows(clean)
    return int(counts[torn].sum())


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
