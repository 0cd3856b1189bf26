"""GraNd of the last layer: the norm of an example's gradient, early in training."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from samacli.pruning.scores.el2n import EARLY, error_norm
from samacli.pruning.scores.running import Running
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_mean import WindowMean


class GraNd(Running):
    """‖∇_{W,b} ℓ(x, y)‖₂ of the last linear layer, the mean over early visits; the largest kept.

    Paul, Ganguli, Dziugaite: "Deep learning on a data diet" (NeurIPS 2021), definition 2.1, whose
    norm is over all parameters. Logits z = W h + b have ∂ℓ/∂z = p − onehot(y), hence
    ∂ℓ/∂W = (p − onehot(y)) hᵀ and
        ‖∇_{W,b} ℓ‖ = ‖p − onehot(y)‖ · √(‖h‖² + 1)      (without the 1 where there is no bias),
    exact for this layer, with no backward pass. The paper averages over ten models at one early
    step; here it is the mean over early visits, see `EL2N`.

    Args:
        window: (start, stop), the part of the run whose visits count; see `WindowMean`.
    """

    needs_features: ClassVar[bool] = True

    def __init__(
        self,
        examples: int,
        *,
        window: tuple[float, float] = EARLY,
        device: torch.device | str = "cpu",
    ) -> None:
        self._mean = WindowMean(examples, window, device)

    def observe(self, seen: Observation) -> None:
        if seen.features is None:
            raise ValueError("GraNd takes Observation.features")
        squares = seen.features.square().sum(1) + float(seen.bias)
        self._mean.add(seen, error_norm(seen) * squares.sqrt())

    def result(self) -> np.ndarray:
        return self._mean.result()
