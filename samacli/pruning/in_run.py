"""What a training run tells of each row on the way."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from samacli.pruning.scores import formulas
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_score import WindowScore


class MeanLoss(WindowScore):
    """The mean over all visits of a row's loss minus that of its batch, in nats.

    Networks fit right labels first (Arpit et al. 2017), so that over the whole run wrong labels
    have the larger losses, even where the trained model has learnt them by heart. What is taken off
    is what all rows have in common at that time, so that rows compare whenever they were visited
    (O2U-Net, Huang et al. 2019, algorithm 1, who take off the epoch's mean). NaN without a label.
    """

    def value(self, seen: Observation) -> Tensor:
        losses = formulas.loss(seen.logits, seen.labels)
        return losses - losses.nanmean()


class Learnt(WindowScore):
    """The share of a row's visits, after a fifth of the run, at which the model was right.

    1 for what was learnt early and not forgotten since: such rows can be left out of training
    (Toneva et al. 2019, section 5.1, "unforgettable examples"). NaN without a label.
    """

    window: ClassVar[tuple[float, float]] = (0.2, 1.0)

    def value(self, seen: Observation) -> Tensor:
        right = (seen.logits.argmax(-1) == seen.labels).float()
        return formulas.where_labelled(right, seen.labels)
