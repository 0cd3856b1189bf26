"""The meta gradient written down directly: double backward, dense algebra, no shortcuts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def snapshot(optimizer: torch.optim.Optimizer) -> dict[Tensor, tuple[Tensor, dict[str, Any]]]:
    """θ and the optimiser's state before a step, for `reference_adaptation`."""
    return {
        p: (
            p.detach().clone(),
            {
                k: v.clone() if isinstance(v, Tensor) else v
                for k, v in optimizer.state.get(p, {}).items()
            },
        )
        for group in optimizer.param_groups
        for p in group["params"]
    }


def reference_adaptation(
    optimizer: torch.optim.Optimizer,
    before: dict[Tensor, tuple[Tensor, dict[str, Any]]],
    params: list[Tensor],
    vectors: list[Tensor],
) -> list[Tensor]:
    """(∂u/∂g)ᵀ·x by autograd through torch's own step, which its optimisers offer as
    `differentiable=True`, from the state before the step. The first step of SGD with momentum is
    not for it: torch takes the gradient out of autograd there."""
    products = {}
    for group in optimizer.param_groups:
        members = [p for p in group["params"] if p.grad is not None]
        if not members:
            continue
        old = [before[p][0].clone() for p in members]
        grads = [p.grad.detach().clone().requires_grad_() for p in members]
        moved = [o.clone().requires_grad_().clone() for o in old]
        options = {k: v for k, v in group.items() if k not in ("params", "initial_lr")}
        if isinstance(optimizer, torch.optim.AdamW):
            del options["decoupled_weight_decay"]  # which it sets itself
        options |= {"differentiable": True, "foreach": False}
        if "fused" in options:
            options["fused"] = False
        again = type(optimizer)(moved, **options)
        for p, copy, grad in zip(members, moved, grads, strict=True):
            copy.grad = grad
            state = before[p][1]
            if state:
                # in double, since torch computes the bias corrections in the step's precision
                again.state[copy] = {
                    k: v.to(p.dtype, copy=True) if isinstance(v, Tensor) else v
                    for k, v in state.items()
                }
        with _default_dtype(members[0].dtype):
            again.step()
        updates = [o - m for o, m in zip(old, moved, strict=True)]
        for p, product in zip(members, _vjp(updates, grads, params, vectors, members), strict=True):
            products[p] = product
    return [products.get(p, torch.zeros_like(p)) for p in params]


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Step counts are made in the default precision, and bias corrections from them."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


def _vjp(
    updates: list[Tensor],
    grads: list[Tensor],
    params: list[Tensor],
    vectors: list[Tensor],
    members: list[Tensor],
) -> list[Tensor]:
    by_param = {id(p): x for p, x in zip(params, vectors, strict=True)}
    weights = [by_param.get(id(p), torch.zeros_like(p)) for p in members]
    return list(torch.autograd.grad(updates, grads, weights))


def reference_meta_gradient(
    problem: Any,
    base_batch: Any,
    meta_batch: Any,
    adaptation: Callable[[list[Tensor], list[Tensor]], list[Tensor]] | None,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·v by double backward, with v = adaptation(params, ∂L_meta/∂θ)."""
    params = [
        p
        for group in problem.optimizer.param_groups
        for p in group["params"]
        if p.requires_grad and p.grad is not None
    ]
    state = torch.get_rng_state()
    meta_loss = problem.meta_loss(problem.model, meta_batch)
    v = list(torch.autograd.grad(meta_loss, params, allow_unused=True))
    v = [torch.zeros_like(p) if g is None else g for p, g in zip(params, v, strict=True)]
    if adaptation is not None:
        v = adaptation(params, v)
    torch.set_rng_state(state)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
        loss = problem.base_loss(problem.model, problem.meta, base_batch)
    grads = torch.autograd.grad(loss, params, create_graph=True, allow_unused=True)
    inner = sum((g * x).sum() for g, x in zip(grads, v, strict=True) if g is not None)
    torch.set_rng_state(state)
    meta_params = list(problem.meta.parameters())
    active = [p for p in meta_params if p.requires_grad]
    found = dict(zip(active, torch.autograd.grad(inner, active, allow_unused=True), strict=True))
    return [torch.zeros_like(p) if (g := found.get(p)) is None else -g for p in meta_params]


def relative_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """‖found − expected‖ / ‖expected‖ over all tensors as one vector."""
    a, b = _vector(found), _vector(expected)
    return float((a - b).norm() / b.norm())


def cosine(found: list[Tensor], expected: list[Tensor]) -> float:
    """Cosine of the angle between two lists of tensors as vectors."""
    a, b = _vector(found), _vector(expected)
    return float(nn.functional.cosine_similarity(a, b, dim=0))


def _vector(tensors: list[Tensor]) -> Tensor:
    return nn.utils.parameters_to_vector([t.detach() for t in tensors])
