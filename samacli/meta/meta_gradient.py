"""One entry for all estimators of the meta gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from samacli.meta.derivatives import pushforward
from samacli.meta.direction import direction
from samacli.meta.preserve import preserved
from samacli.meta.problem import Problem
from samacli.meta.weighting import METHODS, negated_gradient


def meta_gradient(
    problem: Problem, base_batch: Any, meta_batch: Any, method: str = "sama"
) -> list[Tensor]:
    """dL_meta/dλ ≈ −(∂²L_base/∂λ∂θ)·v, v = (∂u/∂g)ᵀ ∂L_meta/∂θ, at the present θ.

    Call after `optimizer.step()` while `p.grad` still holds that step's gradient. Returns one
    tensor for each of `meta.parameters()`. θ, the optimiser's state, `p.grad`, buffers and the
    random state come out exactly as they went in.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    with preserved(problem.model, problem.meta) as rewind:
        at = direction(problem, meta_batch, method)

        def loss(model: nn.Module) -> Tensor:
            rewind()
            return problem.base_loss(model, problem.meta, base_batch)

        with torch.enable_grad():
            _, tangent = pushforward(loss, problem.model, at.params, at.v)
            return negated_gradient(tangent, problem.meta)
