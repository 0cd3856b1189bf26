"""The inverse Hessian by conjugate gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samacli.meta.estimators.implicit import Matvec, Vector, implicit_gradient
from samacli.meta.perturb import dot
from samacli.meta.problem import Problem


def cg(
    problem: Problem,
    base_batch: Any,
    meta_batch: Any,
    *,
    iterations: int = 5,
    damping: float = 0.0,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·q,  (H + damping·I)·q = ∂L_meta/∂θ by K steps of conjugate gradients.

    iterations: K, the number of Hessian-vector products. Stops at the solution so far where the
    curvature along the next direction is not positive (from the start: q = ∂L_meta/∂θ).
    Source: Pedregosa, arXiv 1602.02355; Rajeswaran et al., arXiv 1909.04630.
    """

    def solve(hessian: Matvec, b: Vector) -> Vector:
        q = [torch.zeros_like(x) for x in b]
        residual, towards = [x.clone() for x in b], [x.clone() for x in b]
        size = dot(residual, residual)
        for k in range(iterations):
            product = list(torch._foreach_add(hessian(towards), towards, alpha=damping))
            curvature = dot(towards, product)
            if size == 0 or curvature <= 0:
                return b if k == 0 else q
            rate = size / curvature
            torch._foreach_add_(q, towards, alpha=rate)
            torch._foreach_sub_(residual, product, alpha=rate)
            before, size = size, dot(residual, residual)
            torch._foreach_mul_(towards, size / before)
            torch._foreach_add_(towards, residual)
        return q

    return implicit_gradient(problem, base_batch, meta_batch, solve)
