"""What a contender is measured by, in its own process: time, memory, a meta step's parts."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from samacli.lab.bench.steps import Betty, Contender, Plain, Sama, steps_of
from samacli.lab.bench.work import Replica, Work
from samacli.lab.bench.workload import REHEARSAL, Workload
from samacli.meta import Direction, direction, outputs_and_meta_gradient, weighting_meta_gradient
from samacli.meta.adaptation import adapt
from samacli.models.load import parameter_count
from samacli.training.objective import Batch, weighted_cross_entropy
from samacli.training.runtime import peak_memory_bytes, reset_peak_memory, resident_bytes

PARTS_REPEATS, COST_REPEATS = 7, 5
DERIVATIVES = ("central", "one-sided", "forward", "contraction")
PRECISIONS = ("fp32", "bf16")
STEPS_BEFORE = 5  # the optimiser's state is then more than its first gradient
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
Result = TypeVar("Result")


class Measured:
    """One contender at its work; each answer is of this rank."""

    def __init__(self, load: Workload, contender: Contender) -> None:
        self._contender = contender
        self._replica = Replica.join(load.device, load.world_size)
        exact_allocation()
        # The same work in miniature: what libraries load at first use is not the method's.
        small = replace(load, model=REHEARSAL, batch_size=2, sequence_length=4, unroll=1)
        steps_of(contender, Work(small, self._replica)).run(3)
        give_back_freed_memory()
        self._peak = PeakMemory(self._replica.device)
        self._work = Work(load, self._replica)
        self._steps: Plain | Betty | None = None

    def warm_up(self, steps: int) -> dict[str, Any]:
        """The first steps, and what is then known.

        peak_memory_bytes: the most memory that they needed. form: SAMA's, as it ran.
        """
        self.chunk(steps)
        peak = self._peak.bytes()
        fast_allocation()
        parameters, _ = parameter_count(self._work.model)
        device = self._replica.device
        return {
            "parameters": parameters,
            "threads": torch.get_num_threads(),
            "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
            "peak_memory_bytes": peak,
            "form": getattr(self._steps, "form", None),
        }

    def chunk(self, steps: int) -> float:
        """Seconds of `steps` base steps with their meta steps."""
        if self._steps is None:
            self._steps = steps_of(self._contender, self._work)
        timed = self._steps
        return _seconds(self._replica, lambda: timed.run(steps))

    def breakdown(self) -> dict[str, float]:
        """The parts of a meta step; for SAMA alone."""
        assert isinstance(self._steps, Sama)
        return breakdown(self._steps)

    def derivatives(self) -> list[dict[str, Any]]:
        fast_allocation()
        return derivatives(self._work)

    def leave(self) -> None:
        self._replica.leave()


def breakdown(steps: Sama, repeats: int = PARTS_REPEATS) -> dict[str, float]:
    """Median seconds of each part, over `repeats` steps in turn.

    base_forward, base_backward, optimizer_step: of the base step, with weights.
    meta_backward: forward and backward pass of the meta loss.
    adaptation: the product with ∂u/∂g ("sama" alone).
    derivative: what the directional derivative, the gradient of λ and its mean over the processes
        add to the base step's passes, or ("apart") take by themselves.
    meta_update: the step of λ.
    """
    work = steps.work
    seconds: dict[str, list[float]] = defaultdict(list)

    def clock(name: str, part: Callable[[], Result]) -> Result:
        found: list[Result] = []
        seconds[name].append(_seconds(work.replica, lambda: found.append(part())))
        return found[0]

    def meta_step(batch: Batch, meta_batch: Batch) -> None:
        """A base step and a meta step; the derivative together with what it shares."""
        work.optimizer.zero_grad()
        logits = clock("base_forward", lambda: work.logits(batch))
        loss = work.weighted_loss(logits, batch)
        clock("base_backward", loss.backward)
        clock("optimizer_step", work.optimizer.step)
        with work.autocast():
            at = clock("meta_backward", lambda: direction(work.problem, meta_batch, "sama-na"))
            if steps.method == "sama":
                clock("adaptation", lambda: adapt(work.optimizer, at.params, at.v))
        if steps.form == "apart":
            gradients = clock("both", lambda: steps.apart(batch, meta_batch, logits, "sama-na"))
        else:
            work.optimizer.zero_grad()
            _, gradients = clock("both", lambda: steps.passes(batch, at))
            work.optimizer.step()
        clock("meta_update", lambda: work.meta_update(gradients))

    for _ in range(repeats):
        meta_step(next(work.batches), next(work.meta_batches))
    both = seconds.pop("both")
    beside = ("meta_backward",) if steps.form == "apart" else ("base_forward", "base_backward")
    seconds["derivative"] = [
        total - sum(seconds[name][i] for name in beside) for i, total in enumerate(both)
    ]
    seconds["meta_update"] = seconds.pop("meta_update")  # last, as it happens
    return {name: statistics.median(values) for name, values in seconds.items()}


def derivatives(work: Work) -> list[dict[str, Any]]:
    """Each form of directional derivative against float64 (forward mode), and its cost.

    At one θ and on one pair of batches, without dropout, whose masks differ between precisions. The
    float64 references are taken in the memory of the model and the optimiser's state, which are
    converted and come back unchanged. Of each form in each precision:

    error: ‖g − r‖/‖r‖ of the derivative alone, in λ, r being the float64 one along the same v; None
        where it is no number.
    meta_gradient_error: the same of the whole meta gradient, v's own rounding included.
    relative_cost: a meta step with it, over a plain step in the same precision.
    """
    for _ in range(STEPS_BEFORE):
        batch = next(work.batches)
        work.optimizer.zero_grad()
        work.weighted_loss(work.logits(batch), batch).backward()
        work.optimizer.step()
    meta_batch = next(work.meta_batches)

    def direction_in(precision: str) -> Direction:
        with work.autocast(precision):
            return direction(work.problem, meta_batch)

    def along(at: Direction, form: str, precision: str) -> list[Tensor]:
        v = [v.to(p.dtype, copy=True) for v, p in zip(at.v, at.params, strict=True)]
        with work.autocast(precision):
            own = replace(at, v=v)
            return outputs_and_meta_gradient(work.problem, batch, own, derivative=form)[1]

    def whole(form: str, precision: str) -> list[Tensor]:
        with work.autocast(precision):
            return weighting_meta_gradient(work.problem, batch, meta_batch, derivative=form)

    work.model.eval()
    at = {precision: direction_in(precision) for precision in PRECISIONS}
    _convert(work, torch.float64)
    exact = {precision: along(at[precision], "forward", "fp64") for precision in PRECISIONS}
    reference = whole("forward", "fp64")
    _convert(work, torch.float32)
    cases = [(form, precision) for precision in PRECISIONS for form in DERIVATIVES]
    errors = {
        (form, precision): (
            _relative_error(along(at[precision], form, precision), exact[precision]),
            _relative_error(whole(form, precision), reference),
        )
        for form, precision in cases
    }
    del at
    work.model.train()
    costs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for _ in range(COST_REPEATS):
        for form, precision in cases:
            plain = _seconds(work.replica, lambda: _plain_step(work, batch, precision))  # noqa: B023
            meta = _seconds(work.replica, lambda: whole(form, precision))  # noqa: B023
            costs[form, precision].append(meta / plain)
    return [
        {
            "form": form,
            "precision": precision,
            "error": errors[form, precision][0],
            "meta_gradient_error": errors[form, precision][1],
            "relative_cost": statistics.median(costs[form, precision]),
        }
        for form, precision in cases
    ]


def _plain_step(work: Work, batch: Batch, precision: str) -> None:
    work.optimizer.zero_grad()
    weighted_cross_entropy(work.logits(batch, precision), batch).backward()
    work.optimizer.step()


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


def _seconds(replica: Replica, work: Callable[[], object]) -> float:
    """Between synchronisations."""
    replica.synchronize()
    started = time.perf_counter()
    work()
    replica.synchronize()
    return time.perf_counter() - started


class PeakMemory:
    """Bytes at most, from the moment it is made: make it before the model.

    The same from run to run, and comparable between devices. On a GPU: bytes allocated, by torch.
    On the CPU: resident ones, less what was resident before, libraries loaded; so both leave the
    libraries out.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        gc.collect()
        on_gpu = device.type == "cuda"
        if on_gpu:
            torch.cuda.empty_cache()
        else:
            give_back_freed_memory()
        reset_peak_memory(device)
        # where the system has no figure for now, the peak so far has to do
        now = torch.cuda.memory_allocated(device) if on_gpu else resident_bytes("VmRSS")
        self._before = now if now is not None else peak_memory_bytes(device)

    def bytes(self) -> int:
        """The peak so far."""
        return max(peak_memory_bytes(self._device) - self._before, 0)


def give_back_freed_memory() -> None:
    """Return what malloc holds in reserve (glibc; nothing elsewhere)."""
    _glibc("malloc_trim", 0)


def exact_allocation() -> None:
    """From now on freed tensors leave memory at once: the peak is of what is in use.

    By default glibc keeps blocks of up to 32 MiB in a heap with holes, and the peak depends on
    how they happen to fall. This costs page faults, so it is for the measurement of memory alone.
    """
    _glibc("mallopt", _M_MMAP_THRESHOLD, 1 << 16)
    _glibc("mallopt", _M_TRIM_THRESHOLD, 1 << 16)


def fast_allocation() -> None:
    """Back to where glibc's own thresholds settle in a process that uses large blocks."""
    _glibc("mallopt", _M_MMAP_THRESHOLD, 32 << 20)
    _glibc("mallopt", _M_TRIM_THRESHOLD, 64 << 20)


def _glibc(function: str, *arguments: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has neither
            getattr(ctypes.CDLL(None), function)(*arguments)
