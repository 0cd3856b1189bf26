"""v, the direction along which the base loss is differentiated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from samacli.meta.adaptation import Clip, Diagonal, adapt, take_diagonal
from samacli.meta.adaptation.clip import along_gradient, through_clip
from samacli.meta.distributed import averaged_in_place
from samacli.meta.perturb import norm
from samacli.meta.preserve import preserved
from samacli.meta.problem import Problem
from samacli.meta.shards import any_sharded, is_sharded, summed_over_shards, value_and_gradients


@dataclass
class Direction:
    """v and what is known about it.

    model: the module that the parameters belong to.
    params: the parameters that the optimiser trains and the meta loss reaches.
    v: one tensor for each of them.
    slope: ⟨∂L_meta/∂θ, v⟩, the rate at which the meta loss changes along v.
    loss: L_meta(θ).

    Both numbers stay on the device, (), where making v does not ask for them: no host waits.
    """

    model: nn.Module
    params: list[Tensor]
    v: list[Tensor]
    slope: Tensor | float
    loss: Tensor | float


def direction(
    problem: Problem,
    meta_batch: Any,
    method: str = "sama",
    *,
    release_gradients: bool = False,
    clip: Clip | None = None,
) -> Direction:
    """v = (∂u/∂g)ᵀ ∂L_meta/∂θ ("sama"), or ∂L_meta/∂θ ("sama-na").

    v is made in the meta gradient's own memory: nothing else of the parameters' size is
    allocated. `p.grad`, buffers and the random state are left as they are. Of several replicas,
    each gets the v of its own meta batch, unless `problem.parallel.exact` or parameters are
    sharded: then all have the mean's.

    release_gradients: for loops that call `zero_grad()` next anyway. `p.grad` is given up before
        the meta loss's pass, ∂u/∂g being kept in bfloat16 (a relative error of at most 2⁻⁹ in
        each element of v): half a buffer instead of one beside that pass's activations. Ignored
        where ∂u/∂g is not element-wise or parameters are sharded.
    clip: set where the step took clipped gradients ĝ, which `p.grad` holds: then v is by g, the
        gradient before, (∂ĝ/∂g)ᵀ(∂u/∂ĝ)ᵀ ∂L_meta/∂θ. Of released gradients only the factor counts,
        ∂ĝ/∂g ≈ c: how c itself moves with g takes ĝ, which has been given up.

    Raises ValueError if the meta loss reaches no trained parameter, RuntimeError if no step has
    been taken or its gradients are gone ("sama").
    """
    params = [p for g in problem.optimizer.param_groups for p in g["params"] if p.requires_grad]
    if not params:
        raise ValueError("the optimiser holds no trainable parameters")
    torch.clear_autocast_cache()  # its low-precision copies may be older than the last step
    diagonal = None
    if release_gradients and method == "sama":
        diagonal = take_diagonal(problem.optimizer, params)
    elif release_gradients:
        problem.optimizer.zero_grad()
    parallel = problem.parallel
    with preserved(problem.model), torch.enable_grad(), _multiplied(params, diagonal):
        loss, grads = value_and_gradients(
            lambda: problem.meta_loss(problem.model, meta_batch), params, problem.model
        )
    clip = None if method == "sama-na" else clip
    everywhere = parallel is not None and parallel.exact and not any_sharded(params)
    if everywhere or (clip is not None and diagonal is None):
        # Which parameters are reached may differ between replicas; and the norm that a gradient is
        # clipped by is of all of them.
        grads = [
            torch.zeros_like(p) if g is None else g for p, g in zip(params, grads, strict=True)
        ]
    if not everywhere:
        parallel = None
    reached = [(p, g) for p, g in zip(params, grads, strict=True) if g is not None]
    del grads
    if not reached:
        raise ValueError("the meta loss does not depend on any parameter that is trained")
    theta = [p for p, _ in reached]
    v = _owned([g for _, g in reached])
    value = loss.detach().clone()
    averaged_in_place([*v, value], parallel)
    if any_sharded(theta):  # all shards must be moved by the same ε, which goes by the loss
        ones = torch.ones_like(value)
        value = summed_over_shards(value, theta) / summed_over_shards(ones, theta)
    if method == "sama-na":
        slope: Tensor | float = norm(v) ** 2
    else:
        slope = _adapted(problem, theta, v, diagonal, clip)
    return Direction(problem.model, theta, v, slope, value)


def _adapted(
    problem: Problem,
    theta: list[Tensor],
    v: list[Tensor],
    diagonal: Diagonal | None,
    clip: Clip | None,
) -> Tensor | float:
    """Turn x, the meta gradient in v, into (∂u/∂g)ᵀ·x, which it is already where there is a
    diagonal; returns ⟨x, (∂u/∂g)ᵀ·x⟩."""
    if diagonal is not None:
        if clip is None:
            return diagonal.slope
        torch._foreach_mul_(v, clip.factor.to(v[0]))
        return diagonal.slope * clip.factor
    if clip is None:
        return adapt(problem.optimizer, theta, v)
    before = along_gradient(theta, v)
    slope = adapt(problem.optimizer, theta, v)
    return clip.factor * slope - clip.pull * before * through_clip(clip, theta, v)


@contextmanager
def _multiplied(params: list[Tensor], diagonal: Diagonal | None) -> Iterator[None]:
    """Gradients taken inside are multiplied by ∂u/∂g as they come, which is let go on the way."""
    if diagonal is None:
        yield
        return
    handles = [p.register_hook(partial(diagonal.use_up, p)) for p in params]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _owned(grads: list[Tensor]) -> list[Tensor]:
    """Gradients that may be written to: autograd can hand out expanded or shared memory."""
    seen: set[int] = set()
    owned = []
    for grad in grads:
        if is_sharded(grad):
            owned.append(grad)  # FSDP reduces into memory of its own
            continue
        storage = grad.untyped_storage()
        alone = storage.nbytes() == grad.numel() * grad.element_size()
        owned.append(grad if alone and storage.data_ptr() not in seen else grad.clone())
        seen.add(storage.data_ptr())
    return owned
