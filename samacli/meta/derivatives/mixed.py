"""The mixed derivative of a general base loss along v."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from samacli.meta.derivatives.directional import (
    central,
    gradient_graph,
    one_sided,
    pushforward,
    vector_product,
)
from samacli.meta.derivatives.stop_gradients import HeldConstant, NoTangents
from samacli.meta.direction import Direction
from samacli.meta.distributed import Average
from samacli.meta.functional import overwriting_allowed
from samacli.meta.perturb import frozen
from samacli.meta.preserve import Rewind
from samacli.meta.problem import Problem
from samacli.meta.shards import any_sharded

DERIVATIVES = ("forward", "central", "one-sided", "double-backward")


def mixed_product(
    problem: Problem,
    base_batch: Any,
    at: Direction,
    rewind: Rewind,
    derivative: str,
    *,
    keep: bool = False,
) -> list[Tensor]:
    """(∂²L_base/∂λ∂θ)·v, one tensor for each of `meta.parameters()`, by one of

    "forward": ∂/∂λ of the tangent of L_base along v; exact, one dual pass. Where an operation has
        no forward derivative, "central" with a warning; "central" too for sharded parameters.
    "central", "one-sided": differences of ∂L_base/∂λ; what the loss holds constant (`detach`,
        `no_grad`) is held constant at its value at θ, found in a pass of its own ("central").
    "double-backward": ∂/∂λ of ⟨∂L_base/∂θ, v⟩; exact, with a graph of the backward pass.

    Of several replicas (`problem.parallel`), each takes its own, and all get the mean. Differences
    use up `at.v`, unless `keep`. Every pass starts at the same random state.
    """
    if derivative not in DERIVATIVES:
        raise ValueError(f"derivative must be one of {', '.join(DERIVATIVES)}, not {derivative!r}")
    active = [p for p in problem.meta.parameters() if p.requires_grad]
    mean = Average(active, problem.parallel)

    def loss(model: nn.Module) -> Tensor:
        rewind()
        return problem.base_loss(model, problem.meta, base_batch)

    with torch.enable_grad():
        _add_shares(mean, active, problem, loss, at, derivative, keep)
    found = dict(zip(active, mean.wait(), strict=True))
    return [found.get(p, torch.zeros_like(p)) for p in problem.meta.parameters()]


def _add_shares(
    mean: Average,
    active: Sequence[Tensor],
    problem: Problem,
    loss: Callable[[nn.Module], Tensor],
    at: Direction,
    derivative: str,
    keep: bool,
) -> None:
    """Hand this replica's derivatives to the average as the last pass makes them."""
    watched = partial(mean.collecting, active)
    if any_sharded(at.params):
        # FSDP's parameters can be moved, but neither made dual nor differentiated twice
        if derivative == "double-backward":
            raise NotImplementedError("double backward through sharded parameters")
        derivative = "central" if derivative == "forward" else derivative
    if derivative == "forward":
        try:
            with frozen(problem.model.parameters()), NoTangents(), overwriting_allowed():
                _, tangent = pushforward(loss, problem.model, at.params, at.v)
            with watched(lambda _, grad: grad):
                gradient(tangent, problem.meta)
            return
        except NotImplementedError as reason:
            warnings.warn(f"no forward mode: {reason}; taking central differences", stacklevel=5)
    if derivative == "double-backward":
        with sdpa_kernel(SDPBackend.MATH):
            grads = gradient_graph(loss(problem.model), at.params)
        with watched(lambda _, grad: grad):
            vector_product(grads, active, at.v)
        return
    constants = HeldConstant()

    def evaluate() -> list[Tensor]:
        with constants:
            value = loss(problem.model)
        constants.replay()
        found = gradient(value, problem.meta)
        return [g for g, p in zip(found, problem.meta.parameters(), strict=True) if p.requires_grad]

    with frozen(problem.model.parameters()):
        if derivative == "one-sided":
            for i, product in enumerate(one_sided(evaluate, at, keep=keep)[1]):
                mean.ready(i, product)
            return
        with constants:
            loss(problem.model)
        constants.replay()
        central(evaluate, at, keep=keep, last_pass=watched)


def gradient(value: Tensor, meta: nn.Module) -> list[Tensor]:
    """∂value/∂λ, one tensor for each of `meta.parameters()`, zeros where it does not depend."""
    params = list(meta.parameters())
    active = [p for p in params if p.requires_grad]
    if not active or not value.requires_grad:
        return [torch.zeros_like(p) for p in params]
    found = torch.autograd.grad(value, active, allow_unused=True)
    grads = dict(zip(active, found, strict=True))
    return [torch.zeros_like(p) if (g := grads.get(p)) is None else g for p in params]
