"""The mixed derivative of a general base loss along v."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from samacli.meta.derivatives.difference import central, one_sided
from samacli.meta.derivatives.double_backward import gradient_graph, vector_product
from samacli.meta.derivatives.forward import pushforward
from samacli.meta.derivatives.stop_gradients import HeldConstant, NoTangents
from samacli.meta.direction import Direction
from samacli.meta.functional import overwriting_allowed
from samacli.meta.perturb import frozen
from samacli.meta.preserve import Rewind
from samacli.meta.problem import Problem

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
        no forward derivative, "central" with a warning.
    "central", "one-sided": differences of ∂L_base/∂λ; what the loss holds constant (`detach`,
        `no_grad`) is held constant at its value at θ, found in a pass of its own ("central").
    "double-backward": ∂/∂λ of ⟨∂L_base/∂θ, v⟩; exact, with a graph of the backward pass.

    Differences use up `at.v`, unless `keep`. Every pass starts at the same random state.
    """
    if derivative not in DERIVATIVES:
        raise ValueError(f"derivative must be one of {', '.join(DERIVATIVES)}, not {derivative!r}")

    def loss(model: nn.Module) -> Tensor:
        rewind()
        return problem.base_loss(model, problem.meta, base_batch)

    with torch.enable_grad():
        if derivative == "forward":
            try:
                with frozen(problem.model.parameters()), NoTangents(), overwriting_allowed():
                    _, tangent = pushforward(loss, problem.model, at.params, at.v)
                return gradient(tangent, problem.meta)
            except NotImplementedError as reason:
                warnings.warn(
                    f"no forward mode: {reason}; taking central differences", stacklevel=4
                )
        if derivative == "double-backward":
            with sdpa_kernel(SDPBackend.MATH):
                grads = gradient_graph(loss(problem.model), at.params)
            active = [p for p in problem.meta.parameters() if p.requires_grad]
            found = dict(zip(active, vector_product(grads, active, at.v), strict=True))
            return [found.get(p, torch.zeros_like(p)) for p in problem.meta.parameters()]
        return _differences(problem, loss, at, derivative, keep)


def _differences(
    problem: Problem, loss: Any, at: Direction, derivative: str, keep: bool
) -> list[Tensor]:
    constants = HeldConstant()

    def evaluate() -> list[Tensor]:
        with constants:
            value = loss(problem.model)
        constants.replay()
        return gradient(value, problem.meta)

    with frozen(problem.model.parameters()):
        if derivative == "one-sided":
            return one_sided(evaluate, at, keep=keep)[1]
        with constants:
            loss(problem.model)
        constants.replay()
        return central(evaluate, at, keep=keep)[1]


def gradient(value: Tensor, meta: nn.Module) -> list[Tensor]:
    """∂value/∂λ, one tensor for each of `meta.parameters()`, zeros where it does not depend."""
    params = list(meta.parameters())
    active = [p for p in params if p.requires_grad]
    if not active or not value.requires_grad:
        return [torch.zeros_like(p) for p in params]
    found = torch.autograd.grad(value, active, allow_unused=True)
    grads = dict(zip(active, found, strict=True))
    return [torch.zeros_like(p) if (g := grads.get(p)) is None else g for p in params]
