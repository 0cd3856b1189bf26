"""What the estimators that solve with the base Hessian have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from samacli.meta.derivatives.double_backward import gradient_graph, vector_product
from samacli.meta.distributed import Average, average
from samacli.meta.preserve import preserved
from samacli.meta.problem import Problem
from samacli.meta.shards import any_sharded

Vector = list[Tensor]
Matvec = Callable[[Vector], Vector]


def implicit_gradient(
    problem: Problem, base_batch: Any, meta_batch: Any, solve: Callable[[Matvec, Vector], Vector]
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·q with q = solve(H, ∂L_meta/∂θ) ≈ H⁻¹ ∂L_meta/∂θ, H = ∂²L_base/∂θ².

    H is known by its products with vectors alone. They and the mixed derivative are taken by
    double backward, through one graph of ∂L_base/∂θ that is kept for all of them. Of several
    replicas each solves for its own batches, and all get the mean; with `parallel.exact`, b and
    each product are averaged, and the system solved is that of the joined batch.

    Raises NotImplementedError for sharded parameters.
    """
    theta = [p for g in problem.optimizer.param_groups for p in g["params"] if p.requires_grad]
    if any_sharded(theta):
        raise NotImplementedError("double backward through sharded parameters")
    exact = problem.parallel if problem.parallel is not None and problem.parallel.exact else None
    with preserved(problem.model, problem.meta) as rewind, torch.enable_grad():
        torch.clear_autocast_cache()
        loss = problem.meta_loss(problem.model, meta_batch)
        grads = torch.autograd.grad(loss, theta, allow_unused=True)
        b = [torch.zeros_like(p) if g is None else g for p, g in zip(theta, grads, strict=True)]
        b = average(b, exact).wait()
        rewind()
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            base_loss = problem.base_loss(problem.model, problem.meta, base_batch)
            graph = gradient_graph(base_loss, theta)

        def hessian(x: Vector) -> Vector:
            return average(vector_product(graph, theta, x, keep=True), exact).wait()

        q = solve(hessian, b)
        active = [p for p in problem.meta.parameters() if p.requires_grad]
        mean = Average(active, problem.parallel)
        with mean.collecting(active, lambda _, grad: grad):
            vector_product(graph, active, q)
        found = dict(zip(active, mean.wait(), strict=True))
    return [-found[p] if p in found else torch.zeros_like(p) for p in problem.meta.parameters()]
