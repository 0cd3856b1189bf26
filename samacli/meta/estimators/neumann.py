"""The inverse Hessian as a truncated Neumann series."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samacli.meta.estimators.implicit import Matvec, Vector, implicit_gradient
from samacli.meta.problem import Problem


def neumann(
    problem: Problem,
    base_batch: Any,
    meta_batch: Any,
    *,
    iterations: int = 5,
    alpha: float = 0.1,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·q,  q = α·Σ_{k=0}^{K} (I − αH)ᵏ ∂L_meta/∂θ → H⁻¹ ∂L_meta/∂θ.

    iterations: K, the number of Hessian-vector products; alpha: converges for 0 < α < 2/λ_max(H)
    where H is positive definite. Source: Lorraine et al., arXiv 1911.02590, algorithm 3.
    """

    def solve(hessian: Matvec, b: Vector) -> Vector:
        term, total = [x.clone() for x in b], [x.clone() for x in b]
        for _ in range(iterations):
            torch._foreach_sub_(term, hessian(term), alpha=alpha)
            torch._foreach_add_(total, term)
        torch._foreach_mul_(total, alpha)
        return total

    return implicit_gradient(problem, base_batch, meta_batch, solve)
