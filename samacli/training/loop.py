"""The training loop: one for every method, with or without a meta level."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import PreTrainedModel

from samacli.errors import SamaError
from samacli.meta.preserve import preserved
from samacli.progress import Progress, Silent
from samacli.recipe import Training
from samacli.training.best_state import BestState, Validate
from samacli.training.meta_level import MetaLevel
from samacli.training.objective import (
    NOT_INPUTS,
    Batch,
    Objective,
    model_inputs,
    model_logits,
    to_device,
    weighted_cross_entropy,
)
from samacli.training.optim import make_optimizer, make_schedule
from samacli.training.recovery.checkpoints import Checkpoints
from samacli.training.recovery.fit_state import FitState
from samacli.training.recovery.interruption import Request, interruptible
from samacli.training.recovery.memory import free_memory, in_parts, is_out_of_memory
from samacli.training.recovery.step_start import StepStart
from samacli.training.runtime import peak_memory_bytes, reset_peak_memory

Augment = Callable[[Batch], Batch]


@dataclass
class Fit:
    """A finished run.

    averaged: the exponential-moving-average model, where there is a meta level.
    curve: (step, base loss, meta loss or nan) for every optimiser step.
    seconds: of the loop alone, without loading or testing; with validation, where there is any.
    skipped_steps: those without an update, because loss or gradient was not finite.
    best_step: the optimiser step (from 1) whose state `model` is in; the last without validation.
    samples_per_second: base-level examples a second, of all processes.
    peak_memory_bytes: see `samacli.training.runtime.peak_memory_bytes`.
    """

    model: PreTrainedModel
    averaged: nn.Module | None
    seconds: float
    samples_per_second: float
    peak_memory_bytes: int
    best_step: int
    skipped_steps: int = 0
    curve: list[tuple[int, float, float]] = field(default_factory=list)


def fit(
    model: PreTrainedModel,
    batches: Iterator[Batch],
    steps: int,
    config: Training,
    accelerator: Accelerator,
    *,
    meta_level: MetaLevel | None = None,
    objective: Objective = weighted_cross_entropy,
    validate: Validate | None = None,
    augment: Augment | None = None,
    checkpoints: Checkpoints | None = None,
    progress: Progress | None = None,
    description: str = "training",
) -> Fit:
    """Train `model` in place for `steps` optimiser steps.

    In several processes, each trains a replica on batches of its own (data parallel).

    Args:
        batches: endless; each has the model's inputs, `labels` (−1: none), `index`, and optionally
            `sample_weight`, which multiplies the example's loss where there is no meta level, and
            `clean`, a batch of clean rows that a meta level gives a share of the loss.
        meta_level: weights and targets from a reweighter that learns along the way; its objective
            then takes the place of `objective`.
        objective: the loss, called once a batch; it may keep state from batch to batch.
        validate: scores the model on held-out data at even points; the best state is kept
            (`BestState`).
        augment: applied to every batch on the device.
        checkpoints: where the run is saved along the way, and goes on from what was saved there.
            `batches` must then be `Batches`. Ctrl-C and SIGTERM end it after a step.

    A step whose loss or gradient is not finite is skipped and counted. Where memory does not
    suffice for a batch's passes, the step is begun again with the batch in parts.

    Raises:
        SamaError: `training.skip_at_most` steps in a row were skipped; or not even single examples
            fit in the memory, or not the batches of one of several processes.
        Interrupted: by a signal, where there are checkpoints.
    """
    device = accelerator.device
    reset_peak_memory(device)
    averaged: AveragedModel | None = None
    if meta_level is not None:
        averaged = AveragedModel(
            model, multi_avg_fn=_moving_average(config.ema_decay), use_buffers=True
        ).to(device)
    source = batches
    if accelerator.num_processes > 1:
        first = next(batches)
        batches = itertools.chain([first], batches)
        _freeze_unused(model, to_device(first, device))
    optimizer = make_optimizer(model, config.optimizer)
    wrapped_model, wrapped_optimizer = accelerator.prepare(model, optimizer)
    schedule = make_schedule(optimizer, config, steps)
    bare_model = accelerator.unwrap_model(wrapped_model)
    trained = [bare_model] if averaged is None else [bare_model, averaged]
    state = FitState(
        model=bare_model,
        optimizer=optimizer,
        schedule=schedule,
        averaged=averaged,
        level=meta_level,
        best=None if validate is None else BestState(validate, steps),
        batches=source,
        onlookers=[objective],
        steps=steps,
        device=device,
    )
    if checkpoints is not None:
        checkpoints.restore(state)
        batches = source if state.step else batches
    passes = _Passes(
        wrapped_model, averaged, meta_level, objective, augment, accelerator, config.accumulation
    )
    start = StepStart(bare_model, device)
    progress = progress or Silent()
    began = time.perf_counter() - state.seconds
    with (
        progress.task(description, steps) as task,
        contextlib.nullcontext(Request()) if checkpoints is None else interruptible() as request,
    ):
        task.advance(state.step)
        while not state.finished:
            step = state.step + 1
            start.take()
            held: list[Batch] = []
            while True:
                wrapped_optimizer.zero_grad()
                try:
                    done = passes(_read(batches, held, config.accumulation), state.parts, state)
                    break
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                # Out of the except block, whose error holds what was allocated.
                _take_more_parts(state, held, accelerator, progress, f"{description}, step {step}")
                wrapped_optimizer.zero_grad()
                if meta_level is not None:
                    meta_level.give_up()
                start.restore_buffers()
                start.restore_random_state()
                free_memory(device)
            norm: Any = 0.0
            if config.clip_norm is not None:
                norm = accelerator.clip_grad_norm_(bare_model.parameters(), config.clip_norm)
            failed = not (math.isfinite(done.loss) and math.isfinite(float(norm)))
            state.step = step
            due = checkpoints is not None and checkpoints.due(state)
            failed, due = _agreed(failed, due, request, accelerator)
            meta_loss = math.nan
            if failed:
                state.skipped, state.in_a_row = state.skipped + 1, state.in_a_row + 1
                start.restore_buffers()
                if state.in_a_row >= config.skip_at_most:
                    raise SamaError(_lost(description, state, done.loss, checkpoints))
            else:
                state.in_a_row = 0
                if meta_level is not None:
                    for logits, batch in done.seen:
                        if step > meta_level.config.average_from * steps:
                            meta_level.record(logits, batch)
                        meta_level.remember_losses(logits, batch)
                wrapped_optimizer.step()
                if meta_level is not None and meta_level.due(step, steps):
                    meta_loss = _look(meta_level, state, accelerator, progress, description)
            schedule.step()
            if averaged is not None:
                averaged.update_parameters(bare_model)
                if meta_level is not None:
                    meta_level.settle(step, steps, averaged)
            state.curve.append((step, done.loss, meta_loss))
            state.samples += done.samples
            task.advance()
            if state.best is not None:
                state.best.look(step, trained)
            state.seconds = time.perf_counter() - began
            if checkpoints is not None:
                checkpoints.after_step(state, request, due=due)
    if state.best is not None:
        state.best.restore(trained)
    _same_buffers(bare_model, averaged, accelerator)
    return Fit(
        model=bare_model,
        averaged=None if averaged is None else averaged.module,
        seconds=state.seconds,
        samples_per_second=state.samples / max(state.seconds, 1e-9),
        peak_memory_bytes=peak_memory_bytes(device),
        best_step=steps if state.best is None else state.best.step,
        skipped_steps=state.skipped,
        curve=state.curve,
    )


@dataclass
class _Passed:
    """loss: of the step, mean over its batches. samples: base-level examples, of all processes.

    seen: logits and what is known of their examples, of each forward pass, detached.
    """

    loss: float = 0.0
    samples: int = 0
    seen: list[tuple[Tensor, Batch]] = field(default_factory=list)


@dataclass
class _Passes:
    """The forward and backward passes of an optimiser step."""

    model: nn.Module
    averaged: AveragedModel | None
    level: MetaLevel | None
    objective: Objective
    augment: Augment | None
    accelerator: Accelerator
    accumulation: int

    def __call__(self, batches: Iterator[Batch], parts: int, state: FitState) -> _Passed:
        """Gradients of the mean loss over `accumulation` batches, each taken in so many parts."""
        self.model.train()
        done = _Passed()
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
                    part["averaged_logits"] = _averaged_logits(
                        self.averaged, part, rows, self.accelerator
                    )
                with _synchronized(last and clean is None, self.model, self.accelerator):
                    logits, loss = _forward(
                        self.model, part, self.level, self.objective, self.accelerator
                    )
                    self._backward(loss, share, done)
                if self.level is not None:
                    progress = state.step / state.steps
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
                            loss = self.level.clean_loss(self.model, part)
                            loss = self.level.clean_share * loss
                        self._backward(loss, share, done)
                done.samples += len(clean["labels"]) * self.accelerator.num_processes
        return done

    def _ready(self, batch: Batch) -> Batch:
        batch = to_device(batch, self.accelerator.device)
        return batch if self.augment is None else self.augment(batch)

    def _backward(self, loss: Tensor, share: float, done: _Passed) -> None:
        self.accelerator.backward(loss * share / self.accumulation)
        done.loss += float(loss.detach()) * share / self.accumulation


def _read(batches: Iterator[Batch], held: list[Batch], count: int) -> Iterator[Batch]:
    """A step's batches: those in `held` from an earlier try, and new ones, which come to them."""
    yield from list(held)
    while len(held) < count:
        held.append(next(batches))
        yield held[-1]


def _take_more_parts(
    state: FitState, held: list[Batch], accelerator: Accelerator, progress: Progress, where: str
) -> None:
    """Twice as many parts of half the size.

    Raises:
        SamaError: parts are single examples already, or other processes wait for this one's pass.
    """
    rows = max(len(batch["labels"]) for batch in held)
    if accelerator.num_processes > 1 or state.parts >= rows:
        raise SamaError(
            f"{where}: out of memory with {-(-rows // state.parts):,} examples a pass; lower "
            "training.batch_size and raise training.accumulation by as much, or lower "
            "data.max_length"
        )
    state.parts *= 2
    progress.warn(
        f"{where}: out of memory; from here on batches of {rows:,} are taken in {state.parts} "
        "parts, their gradients added up"
    )


def _look(
    level: MetaLevel, state: FitState, accelerator: Accelerator, progress: Progress, run: str
) -> float:
    """The first half of a meta step, or where memory is short none, and smaller ones from then on.

    Raises:
        SamaError: one clean example does not fit, or not the batch of one of several processes.
    """
    try:
        with accelerator.autocast():
            return level.look(state.model, state.optimizer)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    where = f"{run}, step {state.step}"
    if accelerator.num_processes > 1 or not level.halve_batches():
        raise SamaError(f"{where}: out of memory in the meta step; lower meta.batch_size")
    free_memory(accelerator.device)
    progress.warn(
        f"{where}: out of memory in the meta step, which is left out; from here on half as many "
        "clean examples are taken"
    )
    return math.nan


def _agreed(
    failed: bool, due: bool, request: Request, accelerator: Accelerator
) -> tuple[bool, bool]:
    """What one of several processes says counts for all; so does a signal that one has caught."""
    if accelerator.num_processes == 1:
        return failed, due
    due = due and accelerator.is_main_process
    flags = torch.tensor([failed, due, request.signal], device=accelerator.device)
    torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
    failed_anywhere, due_now, request.signal = flags.tolist()
    return bool(failed_anywhere), bool(due_now)


def _lost(description: str, state: FitState, loss: float, checkpoints: Checkpoints | None) -> str:
    stands = ""
    if checkpoints is not None and checkpoints.folder.is_dir():
        stands = f"; the last good checkpoint stands in {checkpoints.folder}"
    return (
        f"{description}: loss or gradient became {loss} at step {state.step} and "
        f"{state.in_a_row} steps in a row were skipped; lower "
        f"training.optimizer.learning_rate, or set training.clip_norm{stands}"
    )


def _synchronized(
    now: bool, model: nn.Module, accelerator: Accelerator
) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if now else accelerator.no_sync(model)


def _forward(
    model: nn.Module,
    batch: Batch,
    meta_level: MetaLevel | None,
    objective: Objective,
    accelerator: Accelerator,
) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and the loss to go back from."""
    with accelerator.autocast():
        if meta_level is None:
            logits = model_logits(model, batch)
            return logits, objective(logits, batch)
        logits = meta_level.base_pass(batch, lambda: model_logits(model, batch))
        return logits, meta_level.objective(meta_level.reweighter, logits, batch)


def _freeze_unused(model: nn.Module, batch: Batch) -> None:
    """Freeze what the logits don't depend on (a pooler, say), and what would not be trained anyway.

    DistributedDataParallel would wait for its gradients, or look for them at every step.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    with preserved(model):
        logits = model_logits(model, batch)
        found = torch.autograd.grad(logits.sum(), trained, allow_unused=True)
    for parameter, gradient in zip(trained, found, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)


def _same_buffers(model: nn.Module, averaged: nn.Module | None, accelerator: Accelerator) -> None:
    """Give all replicas the first one's buffers: batch-norm statistics are of their own batches."""
    if accelerator.num_processes > 1:
        for module in (model, averaged):
            for buffer in () if module is None else module.buffers():
                torch.distributed.broadcast(buffer, src=0)


def _moving_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential moving average that forgets the start soon: decay min(d, (1+n)/(10+n)).

    With a fixed decay of 0.99 a third of it would still be the untrained model after 100 steps.
    n is the number of averages so far; the ramp is TensorFlow's (ExponentialMovingAverage).
    """

    def average(averaged: Any, current: Any, number: Any) -> None:
        n = int(number)
        get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, number)

    return average


@torch.no_grad()
def _averaged_logits(
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
