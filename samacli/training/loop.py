"""The training loop: one for every method, with or without a meta level."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import PreTrainedModel

from samacli.bilevel.meta_level import MetaLevel
from samacli.errors import SamaError
from samacli.meta.preserve import preserved
from samacli.progress import Progress, Silent
from samacli.recipe import Training
from samacli.store.checkpoints import Checkpoints
from samacli.store.interruption import Request, interruptible
from samacli.training.best_state import BestState, Validate
from samacli.training.compiled import Compiled
from samacli.training.fit_state import FitState
from samacli.training.memory import free_memory, is_out_of_memory
from samacli.training.objective import (
    Batch,
    Objective,
    model_logits,
    to_device,
    weighted_cross_entropy,
)
from samacli.training.observation import Audience, Observer
from samacli.training.optim import make_optimizer, make_schedule
from samacli.training.passes import Augment, Passes, read
from samacli.training.runtime import peak_memory_bytes, reset_peak_memory
from samacli.training.step_start import StepStart
from samacli.training.tracking import track_step


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
    observers: Sequence[Observer] = (),
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
        observers: each is shown every base batch with its logits (`Observation`), but those of
            steps that are skipped.
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
        onlookers=[objective, *observers],
        steps=steps,
        device=device,
    )
    if checkpoints is not None:
        checkpoints.restore(state)
        batches = source if state.step else batches
    audience = Audience(observers, bare_model, accelerator)
    passes = Passes(
        wrapped_model,
        Compiled(wrapped_model) if config.compile else wrapped_model,
        averaged,
        meta_level,
        objective,
        augment,
        audience,
        accelerator,
        config.accumulation,
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
                    done = passes(
                        read(batches, held, config.accumulation), state.parts, (step - 1) / steps
                    )
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
                for observation in done.shown:
                    audience.show(observation)
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
            track_step(accelerator, description, done.loss, meta_loss)
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
