"""The meta gradient of sample weighting and label correction, without a backward pass for λ."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from samacli.meta.adaptation import Clip
from samacli.meta.derivatives import central, gradient, half_precision, one_sided, pushforward
from samacli.meta.derivatives.contraction import Contraction, UnsupportedLayerError
from samacli.meta.direction import Direction, direction
from samacli.meta.distributed import average
from samacli.meta.perturb import frozen
from samacli.meta.perturb import nudge as nudge_parameters
from samacli.meta.preserve import preserved
from samacli.meta.problem import WeightingProblem
from samacli.meta.shards import any_sharded

METHODS = ("sama", "sama-na")
DERIVATIVES = ("auto", "central", "one-sided", "forward", "contraction")


def weighting_meta_gradient(
    problem: WeightingProblem,
    base_batch: Any,
    meta_batch: Any,
    *,
    method: str = "sama",
    derivative: str = "auto",
    outputs_at_theta: Tensor | None = None,
    nudge: float = 0.0,
    clip: Clip | None = None,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·v with L_base = J(λ, o(θ)), v = (∂u/∂g)ᵀ ∂L_meta/∂θ.

    By the chain rule ∂L_base/∂θ·v = ⟨∂J/∂o, ȯ⟩ with ȯ = ∂o/∂θ·v, so the gradient is
        −∇_λ ⟨∇_o J(λ, o), ȯ⟩,
    and only J, a small function of the outputs, is differentiated twice. ȯ has the outputs'
    shape (n, ...). Features of the weights are evaluated at θ, as in the base step.

    method: "sama", or "sama-na" (without ∂u/∂g).
    derivative: how ȯ is made:
        "auto": "forward" in half-precision autocast, else "central";
        "central": two forward passes without a graph, for full precision;
        "one-sided": two forward passes as well, less exact; of use where the base step's own
            pass is one of them, see `outputs_and_meta_gradient`;
        "forward": forward-mode AD, exact, one dual pass; where an operation has no forward
            derivative, "central" with a warning, and "central" for sharded parameters;
        "contraction": layer by layer in one backward pass, exact; sample weights only (labels
            must not depend on λ), and layers as in `contraction.RULES`, else "central" with a
            warning.
    outputs_at_theta: the outputs on `base_batch`, if the caller has them: where weights and labels
        are evaluated. They never enter a difference, so those of the base step itself, one
        update old and under other dropout masks, will do. Not used by "contraction".
    nudge: if not 0, afterwards θ ← θ − nudge·v/‖v‖, with the replicas' mean of v.
    clip: set where the step took clipped gradients, see `direction`.

    Call after `optimizer.step()` and before `zero_grad()`. Returns one tensor for each of
    `meta.parameters()`, zeros for those that are frozen or unused; of several replicas
    (`problem.parallel`), all get the mean. θ (unless nudged), the optimiser's state, `p.grad`,
    buffers and the random state come out exactly as they went in.

    Raises ValueError for an unknown method or derivative, RuntimeError if no step has been taken.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if derivative not in DERIVATIVES:
        raise ValueError(f"derivative must be one of {', '.join(DERIVATIVES)}, not {derivative!r}")
    with preserved(problem.model, problem.meta) as rewind:
        at = direction(problem, meta_batch, method, clip=clip)

        def outputs(model: nn.Module) -> Tensor:
            rewind()
            return problem.outputs(model, base_batch)

        value, tangent = outputs_along(
            problem, base_batch, outputs, at, derivative, outputs_at_theta, keep=nudge != 0
        )
        rewind()
        share = average(mixed_derivative(problem, base_batch, value, tangent), problem.parallel)
        nudge_parameters(at.params, at.v, nudge, problem.parallel)
        return share.wait()


def outputs_along(
    problem: WeightingProblem,
    base_batch: Any,
    outputs: Callable[[nn.Module], Tensor],
    at: Direction,
    derivative: str,
    known: Tensor | None = None,
    *,
    keep: bool = False,
) -> tuple[Tensor, Tensor]:
    """o and ȯ by the form of derivative asked for; outputs(model) -> o, always with one mask."""
    model = problem.model
    if derivative == "auto":
        # Measured (MiniLM, 16 × 64 tokens, against float64). float32: central 4e-5 in 0.81 of a
        # plain step, forward 6e-7 in 1.06, contraction 4e-7 in 1.09. bf16: central 1e-2 to 3e-1,
        # as it happens, in 1.0; forward 1e-2 in 1.1.
        derivative = "forward" if half_precision(at) else "central"
    if derivative == "forward" and any_sharded(at.params):
        derivative = "central"  # FSDP's parameters can be moved, not made dual
    if derivative == "contraction":
        try:
            return _contracted(problem, base_batch, outputs, at)
        except UnsupportedLayerError as reason:
            warnings.warn(f"no contraction: {reason}; taking central differences", stacklevel=4)
    with torch.no_grad():
        if derivative == "forward":
            try:
                value, tangent = pushforward(outputs, model, at.params, at.v)
                return value if known is None else known.detach(), tangent
            except NotImplementedError as reason:
                warnings.warn(f"{reason}; taking central differences", stacklevel=4)
        if derivative == "one-sided":
            (value,), (tangent,) = one_sided(lambda: [outputs(model)], at, keep=keep)
        else:
            (value,), (tangent,) = central(lambda: [outputs(model)], at, keep=keep)
    return value if known is None else known.detach(), tangent


def _contracted(
    problem: WeightingProblem,
    base_batch: Any,
    outputs: Callable[[nn.Module], Tensor],
    at: Direction,
) -> tuple[Tensor, Tensor]:
    """o, and the part of ȯ along d = ∂J/∂o, which is all of it that weights depend on.

    The contraction gives c_i = ⟨d_i, ȯ_i⟩. With d_i = w_i(λ)·e_i only that number matters, and
    ȯ_i may be taken to be c_i·d_i/‖d_i‖².
    """
    record = Contraction(problem.model, at.params, at.v)
    with frozen(problem.model.parameters()), torch.enable_grad():
        with record.listening():
            value = outputs(problem.model)
        record.check_complete()
        d = weighted_cotangent(problem, base_batch, value)
        value.backward(d.to(value.dtype))
    assert record.per_sample is not None
    return value.detach(), tangent_along(d, record.per_sample)


def tangent_along(d: Tensor, shares: Tensor) -> Tensor:
    """ȯ_i = c_i·d_i/‖d_i‖² (n, ...), the shortest with ⟨d_i, ȯ_i⟩ = c_i; shares c (n,)."""
    shares = shares.to(d.dtype).reshape(-1, *[1] * (d.dim() - 1))
    squares = d.square().reshape(len(d), -1).sum(1).reshape(shares.shape)
    return torch.where(squares > 0, shares * d / squares, 0.0)


def weighted_cotangent(problem: WeightingProblem, base_batch: Any, outputs: Tensor) -> Tensor:
    """d = ∂J/∂o, detached. Raises ValueError if λ turns its rows instead of scaling them alone."""
    with torch.enable_grad(), torch.autocast(outputs.device.type, enabled=False):
        d = _cotangent(problem, base_batch, outputs)
        if d.dim() > 1 and not problem.scales_rows:
            if not _only_scaled(d, problem.meta):
                raise ValueError(
                    "contraction is for sample weights; with corrected labels use another"
                )
            problem.scales_rows = True  # the objective's doing, not the batch's
    return d.detach()


def _only_scaled(d: Tensor, meta: nn.Module) -> bool:
    """Whether λ changes the lengths of the rows of d (n, ...) alone, tried in one direction."""
    active = [p for p in meta.parameters() if p.requires_grad]
    if not active or not d.requires_grad:
        return True
    probe = torch.zeros_like(d).requires_grad_()
    first = torch.autograd.grad(
        d, active, probe, create_graph=True, retain_graph=True, allow_unused=True
    )
    pairs = [(g, torch.ones_like(g)) for g in first if g is not None]
    if not pairs:
        return True
    (change,) = torch.autograd.grad([g for g, _ in pairs], probe, [o for _, o in pairs])
    rows, along = change.flatten(1), torch.nn.functional.normalize(d.detach().flatten(1), dim=1)
    across = rows - (rows * along).sum(1, keepdim=True) * along
    return bool(across.norm() <= 1e-3 * rows.norm())


def mixed_derivative(
    problem: WeightingProblem, base_batch: Any, outputs: Tensor, tangent: Tensor
) -> list[Tensor]:
    """−∇_λ ⟨∇_o J(λ, o), ȯ⟩ for outputs o and tangent ȯ of one shape.

    In full precision, the backward pass through λ too: with weights of mean 1 the examples' terms
    nearly cancel, and what half precision would leave of the sum is rounding.
    """
    with torch.enable_grad(), torch.autocast(outputs.device.type, enabled=False):
        cotangent = _cotangent(problem, base_batch, outputs)
        inner = (cotangent * tangent.detach().to(cotangent.dtype)).sum()
        return [-g for g in gradient(inner, problem.meta)]


def _cotangent(problem: WeightingProblem, base_batch: Any, outputs: Tensor) -> Tensor:
    """∂J/∂o as a function of λ.

    In full precision: J costs next to nothing, and its second derivative is all of the signal.
    """
    dtype = torch.promote_types(outputs.dtype, torch.float32)
    with torch.autocast(outputs.device.type, enabled=False):
        o = outputs.detach().to(dtype).requires_grad_()
        loss = problem.objective(problem.meta, o, base_batch)
        (cotangent,) = torch.autograd.grad(loss, o, create_graph=True)
    return cotangent
