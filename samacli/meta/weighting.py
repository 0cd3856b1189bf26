"""The meta gradient of sample weighting and label correction, without a backward pass for λ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from samacli.meta.derivatives import central, one_sided, pushforward
from samacli.meta.direction import Direction, direction
from samacli.meta.preserve import preserved
from samacli.meta.problem import WeightingProblem

METHODS = ("sama", "sama-na")
DERIVATIVES = ("central", "one-sided", "forward")


def weighting_meta_gradient(
    problem: WeightingProblem,
    base_batch: Any,
    meta_batch: Any,
    *,
    method: str = "sama",
    derivative: str = "central",
    outputs_at_theta: Tensor | None = None,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·v with L_base = J(λ, o(θ)), v = (∂u/∂g)ᵀ ∂L_meta/∂θ.

    By the chain rule ∂L_base/∂θ·v = ⟨∂J/∂o, ȯ⟩ with ȯ = ∂o/∂θ·v, so the gradient is
        −∇_λ ⟨∇_o J(λ, o), ȯ⟩,
    and only J, a small function of the outputs, is differentiated twice. ȯ has the outputs'
    shape (n, ...). Features of the weights are evaluated at θ, as in the base step.

    method: "sama", or "sama-na" (without ∂u/∂g).
    derivative: how ȯ is made: "central" (two forward passes without a graph), "one-sided" (one
        more forward pass than the outputs at θ), "forward" (forward-mode AD, exact, one dual pass).
    outputs_at_theta: the outputs on `base_batch` at the present θ, if the caller has them. For
        "one-sided" they must also come from the same dropout masks, that is from a pass that
        started at the present random state.

    Call after `optimizer.step()` and before `zero_grad()`. Returns one tensor for each of
    `meta.parameters()`, zeros for those that are frozen or unused. θ, the optimiser's state,
    `p.grad`, buffers and the random state come out exactly as they went in.

    Raises ValueError for an unknown method or derivative, RuntimeError if no step has been taken.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if derivative not in DERIVATIVES:
        raise ValueError(f"derivative must be one of {', '.join(DERIVATIVES)}, not {derivative!r}")
    with preserved(problem.model, problem.meta) as rewind:
        at = direction(problem, meta_batch, method)

        def outputs(model: nn.Module) -> Tensor:
            rewind()
            return problem.outputs(model, base_batch)

        with torch.no_grad():
            value, tangent = _outputs(outputs, problem.model, at, derivative, outputs_at_theta)
        rewind()
        return mixed_derivative(problem, base_batch, value, tangent)


def _outputs(
    outputs: Any, model: nn.Module, at: Direction, derivative: str, known: Tensor | None
) -> tuple[Tensor, Tensor]:
    """o and ȯ by the form of derivative asked for."""
    if derivative == "forward":
        value, tangent = pushforward(outputs, model, at.params, at.v)
    elif derivative == "one-sided":
        here = None if known is None else [known.detach()]
        (value,), (tangent,) = one_sided(lambda: [outputs(model)], at, here)
    else:
        (value,), (tangent,) = central(lambda: [outputs(model)], at)
    return value if known is None else known.detach(), tangent


def mixed_derivative(
    problem: WeightingProblem, base_batch: Any, outputs: Tensor, tangent: Tensor
) -> list[Tensor]:
    """−∇_λ ⟨∇_o J(λ, o), ȯ⟩ for outputs o and tangent ȯ of one shape.

    J is evaluated in full precision: it costs next to nothing, and its second derivative is
    all there is of the signal.
    """
    dtype = torch.promote_types(outputs.dtype, torch.float32)
    device = outputs.device.type
    with torch.enable_grad(), torch.autocast(device, enabled=False):
        o = outputs.detach().to(dtype).requires_grad_()
        loss = problem.objective(problem.meta, o, base_batch)
        (cotangent,) = torch.autograd.grad(loss, o, create_graph=True)
        return negated_gradient((cotangent * tangent.detach().to(dtype)).sum(), problem.meta)


def negated_gradient(value: Tensor, meta: nn.Module) -> list[Tensor]:
    """−∂value/∂λ, one tensor for each of `meta.parameters()`, zeros where it does not depend."""
    params = list(meta.parameters())
    active = [p for p in params if p.requires_grad]
    if not active or not value.requires_grad:
        return [torch.zeros_like(p) for p in params]
    found = torch.autograd.grad(value, active, allow_unused=True)
    grads = dict(zip(active, found, strict=True))
    return [torch.zeros_like(p) if (g := grads.get(p)) is None else -g for p in params]
