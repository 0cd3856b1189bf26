"""Products of rows' gradients with a direction: backward for the direction, forward for the rows.

For a row's cross-entropy ℓ_j with its label y, ⟨∇ℓ_j, d⟩ = ⟨p_j − e_y, ∂o_j/∂θ·d⟩, o its logits and
p their softmax: a forward-mode pass gives it for every row, and for every label that it might have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from samacli.data import Encoded
from samacli.meta.derivatives.directional import pushforward
from samacli.training.experiment import Experiment
from samacli.training.objective import Batch, clean_loss, model_logits, to_device


def mean_gradient(
    experiment: Experiment,
    model: nn.Module,
    params: Sequence[Tensor],
    encoded: Encoded,
    rows: np.ndarray | None = None,
) -> list[Tensor]:
    """∂/∂θ of the mean cross-entropy of labelled rows, all or the `rows` (k,); 0 where the loss
    does not reach a parameter. Memory of its own each."""
    total = [torch.zeros_like(p) for p in params]
    count = len(encoded) if rows is None else len(rows)
    for batch in experiment.in_order(encoded, rows):
        moved = to_device(batch, experiment.accelerator.device)
        loss = clean_loss(model, moved) * len(moved["labels"]) / count
        found = torch.autograd.grad(loss, list(params), allow_unused=True)
        for whole, part in zip(total, found, strict=True):
            if part is not None:
                whole += part
    return total


def along(
    experiment: Experiment,
    model: nn.Module,
    params: Sequence[Tensor],
    towards: Sequence[Tensor],
    encoded: Encoded,
    description: str,
    rows: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """∂o/∂θ·towards and the probabilities (n, classes) of all rows, or the n `rows`."""

    def both(network: nn.Module, batch: Batch) -> Tensor:
        logits, tangent = pushforward(
            lambda twin: model_logits(twin, batch), network, params, towards
        )
        return torch.cat([tangent, logits.softmax(-1)], dim=1)

    found = experiment.predict(model, encoded, description, rows=rows, output=both)
    tangents, probabilities = np.split(found, 2, axis=1)
    return tangents, probabilities


def products(tangents: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """⟨∇ℓ_j, d⟩ (n,) of rows with these labels, of what `along` gave for d; NaN for those without
    one (−1)."""
    rows = np.flatnonzero(labels >= 0)
    found = np.full(len(labels), np.nan)
    residuals = probabilities[rows]
    residuals[np.arange(len(rows)), labels[rows]] -= 1
    found[rows] = (residuals * tangents[rows]).sum(-1)
    return found
