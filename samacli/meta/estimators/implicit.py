"""What the estimators that solve with the base Hessian have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from samacli.meta.derivatives.double_backward import gradient_graph, vector_product
from samacli.meta.preserve import preserved
from samacli.meta.problem import Problem

Vector = list[Tensor]
Matvec = Callable[[Vector], Vector]


def implicit_gradient(
    problem: Problem, base_batch: Any, meta_batch: Any, solve: Callable[[Matvec, Vector], Vector]
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·q with q = solve(H, ∂L_meta/∂θ) ≈ H⁻¹ ∂L_meta/∂θ, H = ∂²L_base/∂θ².

    H is known by its products with vectors alone. They and the mixed derivative are taken by
    double backward, through one graph of ∂L_base/∂θ that is kept for all of them.
    """
    theta = [p for g in problem.optimizer.param_groups for p in g["params"] if p.requires_grad]
    with preserved(problem.model, problem.meta) as rewind, torch.enable_grad():
        torch.clear_autocast_cache()
        loss = problem.meta_loss(problem.model, meta_batch)
        grads = torch.autograd.grad(loss, theta, allow_unused=True)
        b = [torch.zeros_like(p) if g is None else g for p, g in zip(theta, grads, strict=True)]
        rewind()
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            base_loss = problem.base_loss(problem.model, problem.meta, base_batch)
            graph = gradient_graph(base_loss, theta)
        q = solve(lambda x: vector_product(graph, theta, x, keep=True), b)
        active = [p for p in problem.meta.parameters() if p.requires_grad]
        found = dict(zip(active, vector_product(graph, active, q), strict=True))
    return [-found[p] if p in found else torch.zeros_like(p) for p in problem.meta.parameters()]
