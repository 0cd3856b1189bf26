"""The scores of several runs as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samacli.data import Split
from samacli.export.suspects import Suspects
from samacli.training.metrics import noise_detection
from samacli.workflows.experiment import Scored


@dataclass(frozen=True)
class Summary:
    """Means over the runs, a row a training example (n).

    weight: mean 1. loss, uncertainty: nats. prediction: class ids from the mean probabilities.
    corrected: class ids from the mean corrected targets, where they are learnt.
    noise: how well low weight finds wrong labels, where the truth is known.
    """

    weight: np.ndarray
    loss: np.ndarray
    uncertainty: np.ndarray
    prediction: np.ndarray
    corrected: np.ndarray | None
    noise: dict[str, float] | None
    train: Split

    @property
    def suspects(self) -> Suspects:
        """What `suspects.csv` is made from; the model's own prediction is the suggested label."""
        return Suspects(
            index=self.train.index,
            given=self.train.labels,
            suggested=self.prediction,
            weight=self.weight,
            loss=self.loss,
        )


def summarize(scored: Sequence[Scored], train: Split) -> Summary:
    """Average the runs' scores of the training split."""

    def mean(name: str) -> np.ndarray:
        return np.mean([getattr(one, name) for one in scored], axis=0)

    weight = mean("weight")
    noise = None
    if train.true_labels is not None:
        noise = noise_detection(train.labels, train.true_labels, weight)
    return Summary(
        weight=weight,
        loss=mean("loss"),
        uncertainty=mean("uncertainty"),
        prediction=mean("probabilities").argmax(-1),
        corrected=None if scored[0].targets is None else mean("targets").argmax(-1),
        noise=noise,
        train=train,
    )
