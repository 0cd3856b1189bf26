"""Iterative differentiation: straight through the optimiser's next steps, exact."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_reduce
from torch.nn.attention import SDPBackend, sdpa_kernel

from samacli.meta.adaptation.dry_run import dry_run
from samacli.meta.adaptation.product import unwrap
from samacli.meta.derivatives.mixed import gradient
from samacli.meta.distributed import DataParallel, average
from samacli.meta.functional import call_with
from samacli.meta.preserve import preserved
from samacli.meta.problem import Problem
from samacli.meta.shards import any_sharded


def unrolled(problem: Problem, base_batch: list[Any], meta_batch: Any) -> list[Tensor]:
    """dL_meta(θ_K(λ))/dλ,  θ_{k+1} = θ_k − u(∂L_base/∂θ(θ_k, λ; batch_k)),  θ_0 = θ.

    base_batch: a list of K batches, one for each step of the real optimiser, taken on copies of θ
    and of its present state. Keeps the graph of all K steps. Unlike the other estimators, it
    looks ahead, and needs no gradient in `p.grad`. Of several replicas, all take the same steps,
    with the mean of their gradients, and the result is exactly that of the joined batches.

    Raises TypeError unless base_batch is a list, OpaqueStepError if the optimiser's step can't be
    differentiated, NotImplementedError for sharded parameters.
    """
    if not isinstance(base_batch, list):
        raise TypeError("unrolled takes a list of base batches, one for each step")
    optimizer, model = unwrap(problem.optimizer), problem.model
    theta = [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
    if any_sharded(theta):
        raise NotImplementedError("unrolled steps of sharded parameters")
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
            own = torch.autograd.grad(loss, values, create_graph=True, allow_unused=True)
            grads = _averaged(own, problem.parallel)
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
        return average(gradient(end, problem.meta), problem.parallel).wait()


def _averaged(
    grads: tuple[Tensor | None, ...], parallel: DataParallel | None
) -> tuple[Tensor | None, ...]:
    """Means over the replicas, through which differentiation goes on, on all of them."""
    there = [g for g in grads if g is not None]
    if parallel is None or parallel.size == 1 or not there:
        return grads
    flat = torch.cat([g.reshape(-1) for g in there]) / parallel.size
    group = torch.distributed.group.WORLD if parallel.group is None else parallel.group
    pieces = iter(all_reduce(flat, group=group).split([g.numel() for g in there]))
    return tuple(None if g is None else next(pieces).view_as(g) for g in grads)
