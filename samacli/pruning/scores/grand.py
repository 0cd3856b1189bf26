"""GraNd of the last layer: the norm of an example's gradient, early in training."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from samacli.pruning.scores import formulas
from samacli.pruning.scores.el2n import EARLY
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_score import WindowScore


class GraNd(WindowScore):
    """‖∇_{W,b} ℓ(x, y)‖₂ of the last linear layer, the mean over early visits; the largest kept.

    Paul, Ganguli, Dziugaite: "Deep learning on a data diet" (NeurIPS 2021), definition 2.1, whose
    norm is over all parameters. Logits z = W h + b have ∂ℓ/∂z = p − onehot(y), hence
    ∂ℓ/∂W = (p − onehot(y)) hᵀ and
        ‖∇_{W,b} ℓ‖ = ‖p − onehot(y)‖ · √(‖h‖² + 1)      (without the 1 where there is no bias),
    exact for this layer, with no backward pass. The paper averages over ten models at one early
    step; here it is the mean over early visits, see `EL2N`.
    """

    needs_features: ClassVar[bool] = True
    window: ClassVar[tuple[float, float]] = EARLY

    def value(self, seen: Observation) -> Tensor:
        if seen.features is None:
            raise ValueError("GraNd takes Observation.features")
        return formulas.grand(seen.probabilities, seen.labels, seen.features, bias=seen.bias)
