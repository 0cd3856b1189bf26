"""How exact each form of directional derivative is, and what it costs."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from samacli.lab.bench.work import Work, plain_objective, weighted_objective
from samacli.meta import (
    Direction,
    direction,
    outputs_and_meta_gradient,
    weighting_meta_gradient,
)
from samacli.training.objective import Batch

FORMS = ("central", "one-sided", "forward", "contraction")
PRECISIONS = ("fp32", "bf16")
REPEATS = 5
STEPS_BEFORE = 5  # the optimiser's state is then more than its first gradient


@dataclass(frozen=True)
class Derivative:
    """One form in one precision. Errors are None where they are not numbers.

    error: ‖g − r‖/‖r‖ of the derivative alone, in λ, r being the float64 one along the same v.
    meta_gradient_error: the same of the whole meta gradient, v's own rounding included.
    relative_cost: a meta step with it, over a plain step in the same precision.
    """

    form: str
    precision: str
    error: float | None
    meta_gradient_error: float | None
    relative_cost: float


def derivatives(work: Work) -> list[Derivative]:
    """Each form against float64 (forward mode), at one θ and on one pair of batches.

    Without dropout, whose masks differ between precisions. The float64 references are taken in the
    memory of the model and the optimiser's state, which are converted and come back unchanged.
    """
    batch = _train(work, STEPS_BEFORE)
    meta_batch = next(work.meta_batches)

    def direction_in(precision: str) -> Direction:
        with _autocast(work, precision):
            return direction(work.problem, meta_batch)

    def along(at: Direction, form: str, precision: str) -> list[Tensor]:
        own = replace(
            at, v=[v.to(p.dtype, copy=True) for v, p in zip(at.v, at.params, strict=True)]
        )
        with _autocast(work, precision):
            return outputs_and_meta_gradient(work.problem, batch, own, derivative=form)[1]

    def whole(form: str, precision: str) -> list[Tensor]:
        with _autocast(work, precision):
            return weighting_meta_gradient(work.problem, batch, meta_batch, derivative=form)

    work.model.eval()
    at = {precision: direction_in(precision) for precision in PRECISIONS}
    _convert(work, torch.float64)
    exact = {precision: along(at[precision], "forward", "fp64") for precision in PRECISIONS}
    reference = whole("forward", "fp64")
    _convert(work, torch.float32)
    cases = [(form, precision) for precision in PRECISIONS for form in FORMS]
    found = {
        (form, precision): (
            _relative_error(along(at[precision], form, precision), exact[precision]),
            _relative_error(whole(form, precision), reference),
        )
        for form, precision in cases
    }
    del at
    work.model.train()
    costs: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    for _ in range(REPEATS):
        for form, precision in cases:
            plain = _seconds(work, lambda: _plain_step(work, batch, precision))  # noqa: B023
            meta = _seconds(work, lambda: whole(form, precision))  # noqa: B023
            costs[form, precision].append(meta / plain)
    return [Derivative(*case, *found[case], statistics.median(costs[case])) for case in cases]


def _train(work: Work, steps: int) -> Batch:
    """Some base steps; the last one's batch, its gradient left in place."""
    for _ in range(steps):
        batch = next(work.batches)
        work.optimizer.zero_grad()
        weighted_objective(work.meta, work.logits(batch), batch).backward()
        work.optimizer.step()
    return batch


def _plain_step(work: Work, batch: Batch, precision: str) -> None:
    work.optimizer.zero_grad()
    with _autocast(work, precision):
        logits = work.logits(batch)
    plain_objective(logits, batch).backward()
    work.optimizer.step()


def _autocast(work: Work, precision: str) -> contextlib.AbstractContextManager[None]:
    device = work.replica.device.type
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


def _convert(work: Work, dtype: torch.dtype) -> None:
    """θ, its gradients, λ and the optimiser's state, in place; from float32 and back is exact."""
    work.model.to(dtype)
    work.meta.to(dtype)
    for param, state in work.optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == param.shape:
                state[name] = value.to(dtype)


def _relative_error(found: list[Tensor], reference: list[Tensor]) -> float | None:
    a = torch.cat([t.double().reshape(-1) for t in found])
    b = torch.cat([t.reshape(-1) for t in reference])
    error = float((a - b).norm() / b.norm())
    return error if math.isfinite(error) else None


def _seconds(work: Work, function: Callable[[], object]) -> float:
    work.replica.synchronize()
    started = time.perf_counter()
    function()
    work.replica.synchronize()
    return time.perf_counter() - started
