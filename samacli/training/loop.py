"""The training loop: one for every method, with or without a meta level."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from samacli.errors import SamaError
from samacli.meta import Clip
from samacli.meta.preserve import preserved
from samacli.meta.shards import whole
from samacli.progress import Progress, Silent
from samacli.recipe import Training
from samacli.store.checkpoints import Checkpoints, Request, interruptible
from samacli.training.average import MovingAverage
from samacli.training.best_state import BestState, Validate
from samacli.training.objective import (
    Batch,
    Objective,
    model_logits,
    to_device,
    weighted_cross_entropy,
)
from samacli.training.observation import Audience, Observer
from samacli.training.optim import make_optimizer, make_schedule
from samacli.training.runtime import peak_memory_bytes, reset_peak_memory
from samacli.training.state import FitState
from samacli.training.step import Augment, Level, Step
from samacli.training.tracking import track_step

# Skipped steps in a row that end a run: a single one heals, so many mean that the model is lost.
SKIP_AT_MOST = 10
# Steps between two looks at what the device has found, where the host runs ahead of it.
_READ_EVERY = 20


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
    rows_seen: rows that went forward and backward through the model, each time counted, clean ones
        at either level among them, of all processes.
    """

    model: PreTrainedModel
    averaged: nn.Module | None
    seconds: float
    samples_per_second: float
    peak_memory_bytes: int
    best_step: int
    skipped_steps: int = 0
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    rows_seen: int = 0


def fit(
    model: PreTrainedModel,
    batches: Iterator[Batch],
    steps: int,
    config: Training,
    accelerator: Accelerator,
    *,
    meta_level: Level | None = None,
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
            `clean`, a batch of clean rows that the meta level, or an objective such as
            `CleanBeside`, gives a share of the loss.
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
        SamaError: `SKIP_AT_MOST` steps in a row were skipped; or not even single examples
            fit in the memory, or not the batches of one of several processes.
        Interrupted: by a signal, where there are checkpoints.
    """
    device, progress = accelerator.device, progress or Silent()
    reset_peak_memory(device)
    averaged: MovingAverage | None = None
    if meta_level is not None:
        averaged = MovingAverage(model, config.ema_decay).to(device)
    source = batches
    if accelerator.num_processes > 1:
        first = next(batches)
        batches = itertools.chain([first], batches)
        _freeze_unused(model, to_device(first, device))
    optimizer = make_optimizer(model, config.optimizer)
    wrapped_model, wrapped_optimizer = accelerator.prepare(model, optimizer)
    bare_model = accelerator.unwrap_model(wrapped_model)
    ahead = _runs_ahead(optimizer, observers, accelerator)
    if meta_level is not None and averaged is not None:
        meta_level.begin(
            bare_model,
            averaged,
            optimizer,
            accelerator,
            steps,
            ahead=ahead,
            progress=progress,
            description=description,
        )
    state = FitState(
        model=bare_model,
        optimizer=optimizer,
        schedule=make_schedule(optimizer, config, steps),
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
    gradients = Step(
        wrapped_model,
        state,
        meta_level,
        objective,
        augment,
        audience,
        accelerator,
        config.accumulation,
        config.compile,
        progress,
        description,
    )
    run = _Run(state, gradients, wrapped_optimizer, config, checkpoints, ahead)
    began = time.perf_counter() - state.seconds
    with (
        progress.task(description, steps) as task,
        contextlib.nullcontext(Request()) if checkpoints is None else interruptible() as request,
    ):
        task.advance(state.step)
        while not state.finished:
            due = run.step(batches, request)
            task.advance()
            if state.best is not None:
                state.best.look(state.step, state.trained)
            state.seconds = time.perf_counter() - began
            if checkpoints is not None:
                checkpoints.after_step(state, request, due=due)
    if state.best is not None:
        state.best.restore(state.trained)
    _same_buffers(state.trained, accelerator)
    return Fit(
        model=bare_model,
        averaged=None if averaged is None else averaged.module,
        seconds=state.seconds,
        samples_per_second=state.samples / max(state.seconds, 1e-9),
        peak_memory_bytes=peak_memory_bytes(device),
        best_step=steps if state.best is None else state.best.step,
        skipped_steps=state.skipped,
        curve=state.curve,
        rows_seen=state.samples + (0 if meta_level is None else meta_level.rows_seen),
    )


@dataclass
class _Run:
    """What `fit` has made ready; a step is a method.

    ahead: whether the host runs ahead of the device: then whether a step was a good one is found
    out there, and asked for every so many steps only.
    """

    state: FitState
    gradients: Step
    optimizer: torch.optim.Optimizer
    config: Training
    checkpoints: Checkpoints | None
    ahead: bool

    def step(self, batches: Iterator[Batch], request: Request) -> bool:
        """One optimiser step; returns whether it is time to save, all processes agreed.

        Raises:
            SamaError: too many steps in a row were skipped.
        """
        state, gradients = self.state, self.gradients
        accelerator, level = gradients.accelerator, gradients.level
        done = gradients(batches)
        good: Tensor | bool = done.loss.isfinite()
        clip: Clip | None = None
        if self.config.clip_norm is not None:
            norm = accelerator.clip_grad_norm_(state.model.parameters(), self.config.clip_norm)
            clip = Clip(whole(torch.as_tensor(norm)), self.config.clip_norm)
            good = good & clip.norm.isfinite()
        state.step += 1
        due = self.checkpoints is not None and self.checkpoints.due(state)
        if self.ahead and isinstance(good, Tensor):
            # Fused optimisers leave a step out where this says so, as for gradient scalers.
            state.optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]
            gradients.start.restore_buffers(unless=good)
            self.optimizer.step()
        else:
            good, due = _agreed(good, due, request, accelerator)
            if good:
                gradients.audience.show(done.shown)
                self.optimizer.step()
            else:
                gradients.start.restore_buffers()
        meta_loss: Tensor | float = math.nan
        if level is not None:
            meta_loss = level.after_step(state.step, good, clip)
        state.schedule.step()
        state.note(done.loss, meta_loss, good)
        state.samples += done.samples
        stops = state.finished or due or request.signal
        if not self.ahead or stops or state.step % _READ_EVERY == 0:
            self._read()
        return due

    def _read(self) -> None:
        """What the steps since the last time gave."""
        state, description = self.state, self.gradients.description
        for _, loss, meta_loss in state.read():
            track_step(self.gradients.accelerator, description, loss, meta_loss)
        if state.in_a_row < SKIP_AT_MOST:
            return
        stands = ""
        if self.checkpoints is not None and self.checkpoints.folder.is_dir():
            stands = f"; the last good checkpoint stands in {self.checkpoints.folder}"
        raise SamaError(
            f"{description}: loss or gradient became {state.curve[-1][1]} at step {state.step} and "
            f"{state.in_a_row} steps in a row were skipped; lower "
            f"training.optimizer.learning_rate, or set training.clip_norm{stands}"
        )


def _agreed(
    good: Tensor | bool, due: bool, request: Request, accelerator: Accelerator
) -> tuple[bool, bool]:
    """What one of several processes says counts for all; so does a signal that one has caught."""
    if accelerator.num_processes == 1:
        return bool(good), due
    due = due and accelerator.is_main_process
    flags = torch.tensor([not good, due, request.signal], device=accelerator.device)
    torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
    failed_anywhere, due_now, request.signal = flags.tolist()
    return not failed_anywhere, bool(due_now)


def _runs_ahead(
    optimizer: torch.optim.Optimizer, observers: Sequence[Observer], accelerator: Accelerator
) -> bool:
    """Whether no step need wait for the device: on one GPU, with an optimiser that can skip there.

    An observer's tables could not take a bad step back.
    """
    fused = all(group.get("fused") for group in optimizer.param_groups)
    alone = accelerator.num_processes == 1 and not observers
    return accelerator.device.type == "cuda" and fused and alone


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


def _same_buffers(modules: Sequence[nn.Module], accelerator: Accelerator) -> None:
    """Give all replicas the first one's buffers: batch-norm statistics are of their own batches."""
    if accelerator.num_processes > 1:
        for module in modules:
            for buffer in module.buffers():
                torch.distributed.broadcast(buffer, src=0)
