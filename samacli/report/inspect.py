"""Why one example has its weight: its evidence, and where it stands among the others."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samacli.errors import SamaError, counted
from samacli.export.escape import one_line
from samacli.report.figures import functions
from samacli.report.finished import FinishedRun, Scores, example_rows
from samacli.report.numbers import percent

_NEAREST = 6
_TEXT = 80


@dataclass(frozen=True)
class Neighbour:
    """A row close in weight (of pruning: score). value: that. text: one line; empty for images."""

    row: int
    value: float
    given: str | None
    suggested: str | None
    text: str


@dataclass(frozen=True)
class Inspected:
    """One training row.

    row: position in the input. id: what it is called there, if anything. suggested: the corrected
    label, where labels were corrected, else the prediction. weight: mean 1. score: of pruning, what
    rows are ranked by. loss, uncertainty: nats. mislabelled: how probable it is that the given
    label is wrong; a score, unless `calibrated`. rank: 1 for the largest weight (of pruning:
    score), of `ranked` rows; rank_in_class, ranked_in_class: the same among rows with its given
    label. heavier_than,
    higher_loss_than: shares of all rows and of its class. expected_weight: the learnt function of
    loss and class at its loss. text: empty for images and for rows that were pruned.
    reasons: what of this makes the weight, in words.
    """

    row: int
    id: str | None
    text: str
    given: str | None
    predicted: str | None
    suggested: str | None
    kept: bool | None
    weight: float
    score: float | None
    rank: int
    ranked: int
    rank_in_class: int | None
    ranked_in_class: int | None
    loss: float | None
    higher_loss_than: float | None
    uncertainty: float | None
    mislabelled: float | None
    calibrated: bool
    expected_weight: float | None
    features: list[str]
    reasons: list[str]
    nearest: list[Neighbour]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect(directory: Path, row: int) -> Inspected:
    """Explain the weight of a training row, given by its position in the input.

    Raises:
        SamaError: the directory holds no finished `reweight` or `prune`, or no such row.
    """
    run = FinishedRun.read(directory)
    scores = run.scores
    found = np.flatnonzero(scores.index == row)
    if not len(found):
        raise SamaError(
            f"--row {row}: '{directory}' has no such training row; rows are counted from 0 "
            f"and lie between {scores.index.min()} and {scores.index.max()} here; those held out "
            "are missing"
        )
    place = int(found[0])
    near = _nearest(scores, place)
    contents = example_rows(run, [place, *near])
    given, ranked = scores.given[place], scores.ranked_by
    own_class = None if given is None else scores.of_class(given)
    loss = _known(scores.loss[place])
    higher_loss_than = None
    if loss is not None and own_class is not None:
        higher_loss_than = float((scores.loss[own_class] < loss).mean())
    expected = _expected(run, place)
    return Inspected(
        row=row,
        id=None if scores.names is None else scores.names[place],
        text=_text(run, contents, place),
        given=given,
        predicted=scores.prediction[place],
        suggested=scores.suggested[place],
        kept=None if scores.keep is None else bool(scores.keep[place]),
        weight=float(scores.weight[place]),
        score=None if scores.score is None else float(scores.score[place]),
        rank=_rank(ranked, ranked[place]),
        ranked=len(scores),
        rank_in_class=None if own_class is None else _rank(ranked[own_class], ranked[place]),
        ranked_in_class=None if own_class is None else len(own_class),
        loss=loss,
        higher_loss_than=higher_loss_than,
        uncertainty=_known(scores.uncertainty[place]),
        mislabelled=None if scores.mislabelled is None else _known(scores.mislabelled[place]),
        calibrated=run.calibrated,
        expected_weight=expected,
        features=run.features,
        reasons=_reasons(run, place, higher_loss_than, expected),
        nearest=[
            Neighbour(
                row=int(scores.index[other]),
                value=float(ranked[other]),
                given=scores.given[other],
                suggested=scores.suggested[other],
                text=one_line(_text(run, contents, other), _TEXT),
            )
            for other in near
        ],
    )


def _reasons(
    run: FinishedRun, place: int, higher_loss_than: float | None, expected: float | None
) -> list[str]:
    scores = run.scores
    given, predicted = scores.given[place], scores.prediction[place]
    weight, loss = scores.weight[place], scores.loss[place]
    reasons = []
    if given is None:
        reasons.append("It has no given label, so there is no loss with it to judge by.")
    else:
        reasons.append(
            f"Its loss is {loss:.2f} nats, above that of {percent(higher_loss_than or 0)} of the "
            f"{counted(len(scores.of_class(given)), 'row')} labelled {one_line(given, 40)}."
        )
        said = "agrees with its label"
        if predicted != given:
            said = f"disagrees with its label: it predicts {one_line(str(predicted), 40)}"
        reasons.append(f"The model {said}.")
    if expected is not None:
        said = ": the rest comes from what else is known of it, and from steps when its loss was "
        said += "another."
        if abs(weight - expected) < 0.15 * max(weight, expected):
            said = ", so what else is known of it made little difference."
        reasons.append(
            f"Rows of its label at that loss get {expected:.2f} on average (the learnt function); "
            f"it got {weight:.2f}{said}"
        )
    if run.corrected and given is not None and scores.suggested[place] != given:
        suggested = one_line(str(scores.suggested[place]), 40)
        reasons.append(f"Training settled on another label, {suggested}; the weight is for that.")
    if scores.keep is not None:
        cut = scores.ranked_by[scores.keep].min()
        kept = "kept" if scores.keep[place] else "pruned"
        reasons.append(f"It is {kept}: the lowest score kept is {cut:.3f}.")
    return reasons


def _expected(run: FinishedRun, place: int) -> float | None:
    loss = run.scores.loss[place]
    for name, losses, weights in functions(run):
        if name == run.scores.given[place] and math.isfinite(loss):
            return float(np.interp(loss, losses, weights))
    return None


def _nearest(scores: Scores, place: int) -> list[int]:
    distance = np.abs(scores.ranked_by - scores.ranked_by[place])
    distance[place] = np.inf
    order = np.argsort(distance, kind="stable")[:_NEAREST]
    return [int(other) for other in order if other != place]


def _rank(values: np.ndarray, value: float) -> int:
    return int((values > value).sum()) + 1


def _text(run: FinishedRun, contents: dict[int, dict[str, Any]], place: int) -> str:
    content = contents.get(place, {})
    return "\n".join(content[name] for name in run.text_columns if content.get(name))


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
