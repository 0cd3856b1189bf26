"""One entry for all estimators of the meta gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from samacli.meta.estimators import ESTIMATORS
from samacli.meta.problem import Problem


def meta_gradient(
    problem: Problem, base_batch: Any, meta_batch: Any, method: str = "sama", **options: Any
) -> list[Tensor]:
    """dL_meta/dλ by the estimator of this name; "sama" is −(∂²L_base/∂λ∂θ)·(∂u/∂g)ᵀ ∂L_meta/∂θ.

    Call after `optimizer.step()` while `p.grad` still holds that step's gradient. Returns one
    tensor for each of `meta.parameters()`, at the present θ, learning rates included. θ (unless
    nudged), the optimiser's state, `p.grad`, buffers and the random state come out exactly as
    they went in.

    method: "sama", "sama-na", "neumann", "cg", "unrolled" (`base_batch` is a list of batches then).
    options: the estimator's own, see its docstring: `derivative` and `nudge` for the first two.

    Raises ValueError for an unknown method, RuntimeError if no step has been taken.
    """
    if method not in ESTIMATORS:
        raise ValueError(f"method must be one of {', '.join(ESTIMATORS)}, not {method!r}")
    return ESTIMATORS[method](problem, base_batch, meta_batch, **options)
