"""What the learnt weight depends on, as a curve: weight against loss, class by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from samacli.bilevel.features import Evidence
from samacli.bilevel.reweighter import Reweighter

_POINTS = 33
_ROWS_A_CLASS = 500


@dataclass(frozen=True)
class WeightFunction:
    """Weight against loss for each class.

    loss: nats, rising (points,). weight: (classes, points), 1 is the training rows' mean; nan for a
    class that no row has as its given label.
    """

    loss: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class _SetLoss(Evidence):
    """Evidence whose loss is set, everything else as it is."""

    loss: float = 0.0

    @property
    def losses(self) -> Tensor:
        return torch.full_like(self.logits[:, 0], self.loss)


@torch.no_grad()
def weight_function(
    reweighter: Reweighter, evidence: Evidence, trained: np.ndarray
) -> WeightFunction | None:
    """Partial dependence of the weight on the loss (Friedman 2001, section 8.2), class by class.

    The loss of all rows of a class is set to the same value, everything else about them stays, and
    their weights are averaged; of large classes, 500 rows evenly spread. None where the loss is not
    among the features, or no row has one.

    evidence: of all training rows (n). trained: bool (n,), the rows that count; their mean is 1.
    """
    counted = torch.from_numpy(trained).to(evidence.labels.device)
    labels = torch.where(counted, evidence.labels, -1)
    labelled = torch.nonzero(labels >= 0)[:, 0]
    if "loss" not in reweighter.features or not len(labelled):
        return None
    # Up to where rows are: beyond them, nobody has asked the network.
    losses = evidence.losses[labelled].double().cpu().numpy()
    grid = np.linspace(0, np.quantile(losses, 0.995), _POINTS)
    weights, _ = reweighter.raw(evidence)
    mean = float(weights[counted].double().mean())
    curves = np.full((reweighter.classes, _POINTS), np.nan)
    for label in range(reweighter.classes):
        rows = torch.nonzero(labels == label)[:, 0]
        if not len(rows):
            continue
        rows = rows[_evenly(len(rows)).to(rows.device)]
        part = evidence.of(rows)
        # What a label corrector makes of the weight beside: it does not look at the loss.
        own = reweighter.of_inputs(reweighter.inputs(part), part.labels)
        factor = weights[rows] / own
        for i, loss in enumerate(grid):
            asked = _SetLoss(**vars(part), loss=float(loss))
            found = reweighter.of_inputs(reweighter.inputs(asked), part.labels)
            curves[label, i] = float((found * factor).double().mean()) / mean
    return WeightFunction(grid, curves)


def _evenly(count: int) -> Tensor:
    return torch.linspace(0, count - 1, min(count, _ROWS_A_CLASS)).round().long()
