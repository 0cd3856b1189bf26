"""SAMA: identity for the inverse Jacobian, and the optimiser's adaptation kept."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from samacli.meta.derivatives import mixed_product
from samacli.meta.direction import direction
from samacli.meta.perturb import nudge as nudge_parameters
from samacli.meta.preserve import preserved
from samacli.meta.problem import Problem


def sama(
    problem: Problem,
    base_batch: Any,
    meta_batch: Any,
    *,
    derivative: str = "forward",
    nudge: float = 0.0,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·v with v = (∂u/∂g)ᵀ ∂L_meta/∂θ.

    derivative: how the mixed derivative is taken, see `mixed_product`.
    nudge: if not 0, afterwards θ ← θ − nudge·v/‖v‖.
    Source: "Making Scalable Meta Learning Practical", arXiv 2310.05674, equations 5 and 6.
    """
    return along_direction(problem, base_batch, meta_batch, "sama", derivative, nudge)


def along_direction(
    problem: Problem, base_batch: Any, meta_batch: Any, method: str, derivative: str, nudge: float
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·v with the v of "sama" or "sama-na"."""
    with preserved(problem.model, problem.meta) as rewind:
        at = direction(problem, meta_batch, method)
        product = mixed_product(problem, base_batch, at, rewind, derivative, keep=nudge != 0)
        nudge_parameters(at.params, at.v, nudge, problem.parallel)
        return [-p for p in product]
