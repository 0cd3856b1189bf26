"""Iterative differentiation: straight through the optimiser's next steps, exact."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from samacli.meta.adaptation.dry_run import dry_run
from samacli.meta.adaptation.product import unwrap
from samacli.meta.derivatives.mixed import gradient
from samacli.meta.functional import call_with
from samacli.meta.preserve import preserved
from samacli.meta.problem import Problem


def unrolled(problem: Problem, base_batch: list[Any], meta_batch: Any) -> list[Tensor]:
    """dL_meta(θ_K(λ))/dλ,  θ_{k+1} = θ_k − u(∂L_base/∂θ(θ_k, λ; batch_k)),  θ_0 = θ.

    base_batch: a list of K batches, one for each step of the real optimiser, taken on copies of θ
    and of its present state. Keeps the graph of all K steps. Unlike the other estimators, it
    looks ahead, and needs no gradient in `p.grad`.

    Raises TypeError unless base_batch is a list, OpaqueStepError if the optimiser's step can't be
    differentiated.
    """
    if not isinstance(base_batch, list):
        raise TypeError("unrolled takes a list of base batches, one for each step")
    optimizer, model = unwrap(problem.optimizer), problem.model
    theta = [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
    values = [p.detach().requires_grad_() for p in theta]
    states: list[dict[str, Any]] = [optimizer.state.get(p, {}) for p in theta]
    with (
        preserved(model, problem.meta),
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),  # the fused kernels have no second derivative
    ):
        for batch in base_batch:

            def base_loss(net: Any, batch: Any = batch) -> Tensor:
                return problem.base_loss(net, problem.meta, batch)

            loss = call_with(base_loss, model, theta, values)
            grads = torch.autograd.grad(loss, values, create_graph=True, allow_unused=True)
            used = [i for i, g in enumerate(grads) if g is not None]
            moved, left = dry_run(
                optimizer,
                [theta[i] for i in used],
                [values[i] for i in used],
                [g for g in grads if g is not None],
                [states[i] for i in used],
            )
            for i, value, state in zip(used, moved, left, strict=True):
                values[i], states[i] = value, state
        end = call_with(lambda net: problem.meta_loss(net, meta_batch), model, theta, values)
        return gradient(end, problem.meta)
