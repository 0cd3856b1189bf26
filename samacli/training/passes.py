"""The forward and backward passes of an optimiser step, which leave gradients behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from samacli.bilevel.meta_level import MetaLevel
from samacli.training.memory import in_parts
from samacli.training.objective import (
    NOT_INPUTS,
    Batch,
    Objective,
    model_inputs,
    model_logits,
    to_device,
)
from samacli.training.observation import Audience, Observation

Augment = Callable[[Batch], Batch]


@dataclass
class Passed:
    """loss: of the step, mean over its batches. samples: base-level examples, of all processes.

    seen: logits and what is known of their examples, of each forward pass, detached. shown: the
    same for observers.

    Nothing is done with either before it is known that the step is a good one.
    """

    loss: float = 0.0
    samples: int = 0
    seen: list[tuple[Tensor, Batch]] = field(default_factory=list)
    shown: list[Observation] = field(default_factory=list)


@dataclass
class Passes:
    """The passes of a run: call it once a step.

    model: as the processes share it. compiled: the same for passes that nobody hooks into.
    """

    model: nn.Module
    compiled: nn.Module
    averaged: AveragedModel | None
    level: MetaLevel | None
    objective: Objective
    augment: Augment | None
    audience: Audience
    accelerator: Accelerator
    accumulation: int

    def __call__(self, batches: Iterator[Batch], parts: int, progress: float) -> Passed:
        """Gradients of the mean loss over `accumulation` batches, each taken in so many parts.

        progress: the fraction of the run that is over.
        """
        self.model.train()
        done = Passed()
        for number, batch in enumerate(batches):
            # replicas average their gradients once a step, with the last batch of it
            last = number == self.accumulation - 1
            batch = dict(batch)
            clean = batch.pop("clean", None)
            batch = self._ready(batch)
            counted = batch["labels"] >= 0 if self.level is None else self.level.reweighted(batch)
            for part, share in in_parts(batch, parts, counted):
                if self.averaged is not None and self.level and self.level.needs_averaged_logits:
                    rows = self.level.reweighted(part)
                    part["averaged_logits"] = averaged_logits(
                        self.averaged, part, rows, self.accelerator
                    )
                with _synchronized(last and clean is None, self.model, self.accelerator):
                    logits, loss = self._forward(part)
                    self._backward(loss, share, done)
                done.shown += self.audience.note(part, logits, progress)
                if self.level is not None:
                    self.level.learn(share / self.accumulation, progress=progress)
                    known = {name: part[name] for name in NOT_INPUTS if name in part}
                    done.seen.append((logits.detach(), known))
            done.samples += len(batch["labels"]) * self.accelerator.num_processes
            if self.level is not None and clean is not None:
                # A pass of its own: padded to its own length, and none of λ's business.
                clean = self._ready(clean)
                for part, share in in_parts(clean, parts, clean["labels"] >= 0):
                    with _synchronized(last, self.model, self.accelerator):
                        with self.accelerator.autocast():
                            loss = self.level.clean_loss(self.compiled, part)
                            loss = self.level.clean_share * loss
                        self._backward(loss, share, done)
                done.samples += len(clean["labels"]) * self.accelerator.num_processes
        return done

    def _ready(self, batch: Batch) -> Batch:
        batch = to_device(batch, self.accelerator.device)
        return batch if self.augment is None else self.augment(batch)

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits (n, classes) and the loss to go back from."""
        level = self.level
        hooked = self.audience.needs_features or (level is not None and level.step_under_way)
        model = self.model if hooked else self.compiled

        def forward() -> Tensor:
            with self.audience.listening():
                return model_logits(model, batch)

        with self.accelerator.autocast():
            if level is None:
                logits = forward()
                return logits, self.objective(logits, batch)
            logits = level.base_pass(batch, forward)
            return logits, level.objective(level.reweighter, logits, batch)

    def _backward(self, loss: Tensor, share: float, done: Passed) -> None:
        self.accelerator.backward(loss * share / self.accumulation)
        done.loss += float(loss.detach()) * share / self.accumulation


def read(batches: Iterator[Batch], held: list[Batch], count: int) -> Iterator[Batch]:
    """A step's batches: those in `held` from an earlier try, and new ones, which come to them."""
    yield from list(held)
    while len(held) < count:
        held.append(next(batches))
        yield held[-1]


def _synchronized(
    now: bool, model: nn.Module, accelerator: Accelerator
) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if now else accelerator.no_sync(model)


@torch.no_grad()
def averaged_logits(
    averaged: nn.Module, batch: Batch, rows: Tensor, accelerator: Accelerator
) -> Tensor:
    """The averaged model's logits (n, classes) of the `rows` of a batch (n,); 0 for the others."""
    averaged.eval()
    if not rows.any():
        rows = torch.ones_like(rows)  # no model takes an empty batch
    part = {
        name: value[rows] if isinstance(value, Tensor) and len(value) == len(rows) else value
        for name, value in model_inputs(batch).items()
    }
    with accelerator.autocast():
        some = model_logits(averaged, part)
    logits = some.new_zeros(len(rows), some.shape[-1])
    logits[rows] = some
    return logits
