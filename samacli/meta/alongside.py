"""The meta gradient on the way to the next base step, sharing that step's passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from samacli.meta.derivatives import ahead, half_precision, slope_towards
from samacli.meta.derivatives.contraction import Contraction
from samacli.meta.direction import Direction
from samacli.meta.preserve import preserved
from samacli.meta.problem import WeightingProblem
from samacli.meta.weighting import (
    mixed_derivative,
    outputs_along,
    tangent_along,
    weighted_cotangent,
)


def outputs_and_meta_gradient(
    problem: WeightingProblem,
    base_batch: Any,
    at: Direction,
    *,
    derivative: str = "auto",
    base_pass: Callable[[], Tensor] | None = None,
    keep: bool = False,
) -> tuple[Tensor, list[Tensor]]:
    """The base step's own outputs o(θ), with their graph, and −∇_λ ⟨∇_o J(λ, o), ȯ⟩ beside them.

    What `weighting_meta_gradient` computes on this batch, in two halves that save a pass:
        after a base step:   at = direction(problem, meta_batch)      while p.grad is there
        in the next one:     optimizer.zero_grad()
                             outputs, grads = outputs_and_meta_gradient(problem, batch, at)
                             problem.objective(meta, outputs, batch).backward()
    θ is the same at both. A one-sided difference then costs one forward pass without a graph, in
    the memory that the gradients left, and v is given up before the graph is built. The random
    state and buffers move on as in a plain forward pass; the perturbed one, with the same dropout
    masks, leaves no trace.

    derivative: as for `weighting_meta_gradient`, but "auto" is "one-sided" in full precision. For
        the contraction see `riding`.
    Of several replicas, each gets its own share of the gradient: start `average(grads,
    problem.parallel)` before the base step's backward pass, and wait for it after.
    base_pass() -> the outputs, if not problem.outputs(model, base_batch) (a wrapped model, say).
    keep: v is needed again, by another part of the base step.
    """
    value, tangent = outputs_and_tangent(
        problem, base_batch, at, derivative=derivative, base_pass=base_pass, keep=keep
    )
    with preserved(problem.meta):
        return value, mixed_derivative(problem, base_batch, value, tangent)


def outputs_and_tangent(
    problem: WeightingProblem,
    base_batch: Any,
    at: Direction,
    *,
    derivative: str = "auto",
    base_pass: Callable[[], Tensor] | None = None,
    keep: bool = False,
) -> tuple[Tensor, Tensor]:
    """The first half of `outputs_and_meta_gradient`: o(θ), with its graph, and ȯ = ∂o/∂θ·v."""
    if derivative == "auto":
        derivative = "forward" if half_precision(at) else "one-sided"

    def outputs(model: Any) -> Tensor:
        rewind()
        return problem.outputs(model, base_batch)

    tangent: Tensor | None = None
    with preserved(problem.model, problem.meta) as rewind, torch.no_grad():
        if derivative == "one-sided":
            moved, epsilon = ahead(lambda: [outputs(problem.model)], at, keep=keep)
        else:
            _, tangent = outputs_along(problem, base_batch, outputs, at, derivative, keep=keep)
    with torch.enable_grad():
        value = base_pass() if base_pass else problem.outputs(problem.model, base_batch)
    if tangent is None:
        (tangent,) = slope_towards(moved, epsilon, [value])
    return value, tangent


class Rider:
    """The meta gradient of a base step whose passes were listened to, see `riding`."""

    def __init__(self, problem: WeightingProblem, record: Contraction) -> None:
        self._problem = problem
        self._record = record

    def meta_gradient(
        self, base_batch: Any, outputs: Tensor, loss_scale: float = 1.0
    ) -> list[Tensor]:
        """One tensor for each of `meta.parameters()`, after the backward pass, before λ changes.

        Of several replicas, each gets its own share, see `average`.
        outputs: those of the base step. loss_scale: what the loss was multiplied by before the
        backward pass (1/accumulation, a gradient scaler's scale).

        Raises ValueError if labels depend on λ, UnsupportedLayerError if layers were passed by,
        RuntimeError if there was no backward pass.
        """
        tangent = self.tangent(base_batch, outputs, loss_scale)
        with preserved(self._problem.meta):
            return mixed_derivative(self._problem, base_batch, outputs, tangent)

    def tangent(self, base_batch: Any, outputs: Tensor, loss_scale: float = 1.0) -> Tensor:
        """The part of ȯ (n, ...) along ∂J/∂o, which is all of it that weights depend on.

        Once, and otherwise as `meta_gradient`.
        """
        self._record.check_complete()
        if self._record.per_sample is None:
            raise RuntimeError("the base step's backward pass has not been made")
        self._record.let_go()
        with preserved(self._problem.meta):
            d = weighted_cotangent(self._problem, base_batch, outputs)
        return tangent_along(d, self._record.per_sample / loss_scale)


@contextmanager
def riding(
    problem: WeightingProblem, at: Direction, *, compact: bool = False, keep: bool = False
) -> Iterator[Rider]:
    """Take the meta gradient from the next base step's own backward pass, exactly.

        after a base step:   at = direction(problem, meta_batch)      while p.grad is there
        in the next one:     optimizer.zero_grad()
                             with riding(problem, at) as rider:
                                 outputs = problem.outputs(model, batch)
                             problem.objective(meta, outputs, batch).backward()
                             grads = rider.meta_gradient(batch, outputs)
    No pass is added, one application of each layer to v instead (see `contraction`). For sample
    weights alone; v's memory is held until the backward pass is over.

    compact: hold v's matrices in bfloat16, as is done under half-precision autocast anyway: half
        the memory beside the base step's activations, a relative error of at most 2⁻⁹ in each
        element of v.
    keep: v is needed again, by another part of the base step, and stays as it is.

    Raises UnsupportedLayerError, before any pass, if a layer has no rule.
    """
    record = Contraction(problem.model, at.params, at.v)
    if compact or half_precision(at):  # in half precision matrix layers would round v anyway
        at.v = at.v if keep else []
        record.round()
    with record.listening():
        yield Rider(problem, record)
