"""Where a meta step's time goes."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from samacli.lab.bench.steps import Sama
from samacli.lab.bench.work import weighted_objective
from samacli.meta import direction, weighting_meta_gradient
from samacli.meta.adaptation import adapt

REPEATS = 7
Result = TypeVar("Result")


class _Clock:
    """Seconds by name, taken between synchronisations."""

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self._synchronize = synchronize
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def time(self, name: str, work: Callable[[], Result]) -> Result:
        self._synchronize()
        started = time.perf_counter()
        result = work()
        self._synchronize()
        self.seconds[name].append(time.perf_counter() - started)
        return result


def breakdown(steps: Sama, repeats: int = REPEATS) -> dict[str, float]:
    """Median seconds of each part, over `repeats` steps in turn.

    base_forward, base_backward, optimizer_step: of the base step, with weights.
    meta_backward: forward and backward pass of the meta loss.
    adaptation: the product with ∂u/∂g ("sama" alone).
    derivative: what the directional derivative, the gradient of λ and its mean over the processes
        add to the base step's passes, or ("apart") take by themselves.
    meta_update: the step of λ.
    """
    clock = _Clock(steps.work.replica.synchronize)
    for _ in range(repeats):
        _step(steps, clock)
    seconds = clock.seconds
    both = seconds.pop("both")
    beside = ("meta_backward",) if steps.form == "apart" else ("base_forward", "base_backward")
    seconds["derivative"] = [
        total - sum(seconds[name][i] for name in beside) for i, total in enumerate(both)
    ]
    seconds["meta_update"] = seconds.pop("meta_update")  # last, as it happens
    return {name: statistics.median(values) for name, values in seconds.items()}


def _step(steps: Sama, clock: _Clock) -> None:
    """A base step and a meta step, part by part; the derivative together with what it shares."""
    work = steps.work
    batch, meta_batch = next(work.batches), next(work.meta_batches)
    work.optimizer.zero_grad()
    logits = clock.time("base_forward", lambda: work.logits(batch))
    loss = weighted_objective(work.meta, logits, batch)
    clock.time("base_backward", loss.backward)
    clock.time("optimizer_step", work.optimizer.step)
    with work.autocast():
        at = clock.time("meta_backward", lambda: direction(work.problem, meta_batch, "sama-na"))
        if steps.method == "sama":
            clock.time("adaptation", lambda: adapt(work.optimizer, at.params, at.v))
        if steps.form == "apart":
            gradients = clock.time(
                "both",
                lambda: weighting_meta_gradient(
                    work.problem,
                    batch,
                    meta_batch,
                    method="sama-na",
                    outputs_at_theta=logits.detach(),
                ),
            )
    if steps.form != "apart":
        work.optimizer.zero_grad()
        _, gradients = clock.time("both", lambda: steps.passes(batch, at))
        work.optimizer.step()
    clock.time("meta_update", lambda: work.meta_update(gradients))
