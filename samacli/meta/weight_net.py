"""The module that gives each sample its weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MetaWeightNet(nn.Module):
    """w_i = W(features_i, label_i; λ): a small network from a sample's features to its weight.

    num_features: f, the number of numbers given for each sample (loss, margin, divergence, ...).
    num_classes: if given, the sample's label is an input too, as an embedding: whether a high loss
        means a wrong label depends on which label it is.
    hidden: width of the hidden layers; layers: how many of them (1 or 2).
    normalize: divide by the batch's mean weight, so that weights say which samples count more,
        and cannot all shrink together.

    Starts near uniform: the last layer is small, so weights are equal within a few per cent, but
    not 0, so that gradients reach every layer from the first step.
    """

    def __init__(
        self,
        num_features: int = 1,
        num_classes: int | None = None,
        *,
        hidden: int = 64,
        layers: int = 1,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        if layers not in (1, 2):
            raise ValueError(f"layers must be 1 or 2, not {layers}")
        self.normalize = normalize
        self.inward = nn.Linear(num_features, hidden)
        self.label = None if num_classes is None else nn.Embedding(num_classes, hidden)
        self.middle = nn.Linear(hidden, hidden) if layers == 2 else None
        self.outward = nn.Linear(hidden, 1)
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.1)
        nn.init.normal_(self.outward.weight, std=0.1 / hidden**0.5)
        nn.init.zeros_(self.outward.bias)

    def forward(self, features: Tensor, label: Tensor | None = None) -> Tensor:
        """features (n, f), label (n,) of class numbers -> positive weights (n,).

        Raises ValueError if the label is missing, or given where none was asked for.
        """
        if (label is None) != (self.label is None):
            raise ValueError("give label exactly if num_classes was given")
        x = self.inward(features)
        if self.label is not None:
            x = x + self.label(label)
        x = F.silu(x)
        if self.middle is not None:
            x = F.silu(self.middle(x))
        weights = 2 * torch.sigmoid(self.outward(x).squeeze(-1))
        return normalized(weights) if self.normalize else weights


def normalized(weights: Tensor) -> Tensor:
    """w_i / mean(w), mean 1 over the batch (n,); weights that are all 0 stay 0."""
    return weights / weights.mean().clamp_min(torch.finfo(weights.dtype).eps)
