"""One optimiser step's gradients: its forward and backward passes, in parts where memory is short.

The seam between the levels is here: `Level` is all that the base level knows of the meta level.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from samacli.errors import SamaError, counted
from samacli.meta import Clip
from samacli.meta.shards import any_sharded
from samacli.progress import Progress
from samacli.training.average import MovingAverage
from samacli.training.memory import free_memory, in_parts, is_out_of_memory
from samacli.training.objective import Batch, Objective, model_logits, to_device
from samacli.training.observation import Audience, Observation
from samacli.training.state import FitState, StepStart

Augment = Callable[[Batch], Batch]


class Forward(Protocol):
    """The base level's forward pass of a batch: logits (n, classes) in float32.

    compiled: whether it may go through torch.compile, where hooks on layers go unseen.
    """

    def __call__(self, *, compiled: bool) -> Tensor: ...


class Level(Protocol):
    """A meta level, as the base level meets it; `samacli.bilevel.level.MetaLevel` is the one.

    `begin` once; then for each optimiser step `begin_step`, `base_pass` around each of its passes,
    `end_passes`, and `after_step`.
    """

    rows_seen: int  # of meta batches that went forward and backward, of all processes

    def begin(
        self,
        model: nn.Module,
        averaged: MovingAverage,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        steps: int,
        *,
        ahead: bool,
        progress: Progress,
        description: str,
    ) -> None:
        """What is trained, and for how many steps. averaged: the model's moving average.

        ahead: nothing in a step may wait for the device.
        """
        ...

    def counted(self, batch: Batch) -> Tensor:
        """bool (n,): the rows whose mean loss the batch's loss is."""
        ...

    def begin_step(self, *, alone: bool) -> None:
        """A step begins, or begins again in smaller parts.

        alone: one pass of one process is all of it.
        """
        ...

    def base_pass(
        self, batch: Batch, forward: Forward, *, scale: float
    ) -> contextlib.AbstractContextManager[tuple[Tensor, Tensor]]:
        """Logits (n, classes) and the loss to go back from; the backward pass is made within.

        scale: what the loss is multiplied by before it.
        """
        ...

    def end_passes(self) -> Tensor | None:
        """The base passes are made: what their gradients and losses are to be multiplied by.

        () on the device; None: by 1.
        """
        ...

    def clean_part(self, model: nn.Module, batch: Batch) -> Tensor:
        """What clean rows beside a batch add to its loss."""
        ...

    def after_step(self, step: int, good: Tensor | bool, clip: Clip | None) -> Tensor | float:
        """After optimiser step `step` (from 1) and before the learning rate changes.

        good: whether it was not skipped; a bool () on the device, where that is not known here.
        clip: of its gradients, if they were clipped by their norm.
        Returns the meta loss where a meta step was begun, else NaN.
        """
        ...

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> None: ...


@dataclass
class Passed:
    """loss: of the step, mean over its batches, () float64 on the device. samples: base-level
    examples, of all processes.

    shown: logits and what is known of their examples, of each forward pass, detached, for
    observers. Nothing is done with it before it is known that the step is a good one.
    """

    loss: Tensor
    samples: int = 0
    shown: list[Observation] = field(default_factory=list)


@dataclass
class Step:
    """The gradients of a step: call it once a step.

    model: as the processes share it. compiled: whether passes that nobody hooks into go through
    torch.compile. description: of the run, for messages.
    """

    model: nn.Module
    state: FitState
    level: Level | None
    objective: Objective
    augment: Augment | None
    audience: Audience
    accelerator: Accelerator
    accumulation: int
    compiled: bool
    progress: Progress
    description: str

    def __post_init__(self) -> None:
        self.start = StepStart(self.state.model, self.accelerator.device)
        self._fast = Compiled(self.model) if self.compiled else self.model
        # What clean rows beside a batch add: the meta level says, or without one the objective.
        weighs = self.objective if self.level is None else self.level
        self._clean_part = getattr(weighs, "clean_part", None)
        self._sharded = any_sharded(list(self.model.parameters()))

    def __call__(self, batches: Iterator[Batch]) -> Passed:
        """Leaves the gradients of the mean loss over `accumulation` batches in `p.grad`.

        Where memory does not suffice, the step is begun again with the batches in smaller parts.

        Raises:
            SamaError: not even single examples fit, or not the batches of one of several processes.
        """
        self.start.take()
        held: list[Batch] = []
        while True:
            self.state.optimizer.zero_grad()
            try:
                return self._passes(read(batches, held, self.accumulation))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Out of the except block, whose error holds what was allocated.
            self._take_more_parts(held)
            self.state.optimizer.zero_grad()
            self.start.restore_buffers()
            self.start.restore_random_state()
            free_memory(self.accelerator.device)

    def _passes(self, batches: Iterator[Batch]) -> Passed:
        self.model.train()
        parts, progress = self.state.parts, self.state.step / self.state.steps
        done = Passed(torch.zeros((), dtype=torch.float64, device=self.accelerator.device))
        clean_batches: list[Batch] = []
        if self.level is not None:
            alone = parts == self.accumulation == self.accelerator.num_processes == 1
            self.level.begin_step(alone=alone)
        for number, batch in enumerate(batches):
            # replicas average their gradients once a step, with the last batch of it
            last = number == self.accumulation - 1
            batch = dict(batch)
            clean = batch.pop("clean", None)
            batch = self._ready(batch)
            counted = batch["labels"] >= 0 if self.level is None else self.level.counted(batch)
            for part, share in in_parts(batch, parts, counted):
                with self._synchronized(last and clean is None):
                    logits = self._base_pass(part, share, done)
                done.shown += self.audience.note(part, logits, progress)
            done.samples += len(batch["labels"]) * self.accelerator.num_processes
            if self._clean_part is not None and clean is not None:
                clean_batches.append(clean)
        if self.level is not None:
            self._multiply(self.level.end_passes(), done)
        # Passes of their own: padded to their own length, and none of λ's business.
        for number, clean in enumerate(clean_batches):
            clean = self._ready(clean)
            for part, share in in_parts(clean, parts, clean["labels"] >= 0):
                with self._synchronized(number == len(clean_batches) - 1):
                    assert self._clean_part is not None
                    with self.accelerator.autocast():
                        loss = self._clean_part(self._fast, part)
                    self._backward(loss, share, done)
            done.samples += len(clean["labels"]) * self.accelerator.num_processes
        return done

    def _multiply(self, factor: Tensor | None, done: Passed) -> None:
        """The base passes' gradients and losses, by what only all of them together could tell."""
        if factor is None:
            return
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, factor)
        done.loss *= factor

    def _base_pass(self, batch: Batch, share: float, done: Passed) -> Tensor:
        """Forward and backward; returns the logits (n, classes)."""

        def forward(*, compiled: bool = True) -> Tensor:
            hooked = self.audience.needs_features or not compiled
            with self.audience.listening():
                return model_logits(self.model if hooked else self._fast, batch)

        if self.level is None:
            with self.accelerator.autocast():
                logits = forward()
                loss = self.objective(logits, batch)
            self._backward(loss, share, done)
            return logits
        scale = share / self.accumulation
        with self.level.base_pass(batch, forward, scale=scale) as (logits, loss):
            self._backward(loss, share, done)
        return logits

    def _backward(self, loss: Tensor, share: float, done: Passed) -> None:
        self.accelerator.backward(loss * share / self.accumulation)
        done.loss += loss.detach().double() * share / self.accumulation

    def _ready(self, batch: Batch) -> Batch:
        batch = to_device(batch, self.accelerator.device)
        return batch if self.augment is None else self.augment(batch)

    def _synchronized(self, now: bool) -> contextlib.AbstractContextManager[Any]:
        # Before a sharded model's gradients are reduced, `_multiply` would not find them.
        now = now or (self.level is not None and self._sharded)
        return contextlib.nullcontext() if now else self.accelerator.no_sync(self.model)

    def _take_more_parts(self, held: list[Batch]) -> None:
        """Twice as many parts of half the size.

        Raises:
            SamaError: they are single examples already, or other processes wait for this one.
        """
        state, where = self.state, f"{self.description}, step {self.state.step + 1}"
        rows = max(len(batch["labels"]) for batch in held)
        if self.accelerator.num_processes > 1 or state.parts >= rows:
            raise SamaError(
                f"{where}: out of memory with "
                f"{counted(-(-rows // state.parts), 'example')} a pass; lower "
                "training.batch_size and raise training.accumulation by as much, or lower "
                "data.max_length"
            )
        state.parts *= 2
        self.progress.warn(
            f"{where}: out of memory; from here on batches of {rows:,} are taken in {state.parts} "
            "parts, their gradients added up"
        )


def read(batches: Iterator[Batch], held: list[Batch], count: int) -> Iterator[Batch]:
    """A step's batches: those in `held` from an earlier try, and new ones, which come to them."""
    yield from list(held)
    while len(held) < count:
        held.append(next(batches))
        yield held[-1]


class Compiled(nn.Module):
    """The same module, called through torch.compile.

    Hooks that are set on its layers after the first call go unseen, so passes that need any take
    the module itself.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._call = torch.compile(model)

    def forward(self, **inputs: Any) -> Any:
        """Raises SamaError where the model cannot be compiled, for want of a compiler, say."""
        try:
            return self._call(**inputs)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise SamaError(
                f"training.compile: torch.compile failed on this model: {reason}; set "
                "training.compile=false"
            ) from error
