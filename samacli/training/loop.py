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
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import PreTrainedModel

from samacli.errors import SamaError
from samacli.meta.preserve import preserved
from samacli.progress import Progress, Silent
from samacli.recipe import Training
from samacli.training.best_state import BestState, Validate
from samacli.training.compiled import Compiled
from samacli.training.meta_level import MetaLevel
from samacli.training.objective import (
    Batch,
    Objective,
    model_inputs,
    model_logits,
    to_device,
    weighted_cross_entropy,
)
from samacli.training.observation import Audience, Observer
from samacli.training.optim import make_optimizer, make_schedule
from samacli.training.runtime import peak_memory_bytes, reset_peak_memory
from samacli.training.tracking import track_step

Augment = Callable[[Batch], Batch]


@dataclass
class Fit:
    """A finished run.

    averaged: the exponential-moving-average model, where there is a meta level.
    curve: (step, base loss, meta loss or nan) for every optimiser step.
    seconds: of the loop alone, without loading or testing; with validation, where there is any.
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
        observers: each is shown every base batch with its logits (`Observation`).

    Raises:
        SamaError: the loss became NaN or infinite.
    """
    device = accelerator.device
    reset_peak_memory(device)
    averaged: AveragedModel | None = None
    if meta_level is not None:
        averaged = AveragedModel(
            model, multi_avg_fn=_moving_average(config.ema_decay), use_buffers=True
        ).to(device)
    if accelerator.num_processes > 1:
        first = next(batches)
        batches = itertools.chain([first], batches)
        _freeze_unused(model, to_device(first, device))
    optimizer = make_optimizer(model, config.optimizer)
    wrapped_model, wrapped_optimizer = accelerator.prepare(model, optimizer)
    schedule = make_schedule(optimizer, config, steps)
    bare_model = accelerator.unwrap_model(wrapped_model)
    compiled = Compiled(wrapped_model) if config.compile else wrapped_model
    trained = [bare_model] if averaged is None else [bare_model, averaged]
    audience = Audience(observers, bare_model, accelerator)
    best = None if validate is None else BestState(validate, steps)
    curve: list[tuple[int, float, float]] = []
    samples = 0
    started = time.perf_counter()
    with (progress or Silent()).task(description, steps) as task:
        for step in range(1, steps + 1):
            wrapped_model.train()
            wrapped_optimizer.zero_grad()
            loss_sum = 0.0
            for part in range(config.accumulation):
                batch = next(batches)
                clean = batch.pop("clean", None)
                batch = to_device(batch, device)
                if augment is not None:
                    batch = augment(batch)
                if averaged is not None and meta_level and meta_level.needs_averaged_logits:
                    rows = meta_level.reweighted(batch)
                    batch["averaged_logits"] = _averaged_logits(averaged, batch, rows, accelerator)
                # replicas average their gradients once a step, with the last batch of it
                last = part == config.accumulation - 1
                with _synchronized(last and clean is None, wrapped_model, accelerator):
                    hooked = audience.needs_features or (
                        meta_level is not None and meta_level.step_under_way
                    )
                    logits, loss = _forward(
                        wrapped_model if hooked else compiled,
                        batch,
                        meta_level,
                        objective,
                        accelerator,
                        audience,
                    )
                    accelerator.backward(loss / config.accumulation)
                loss_sum += float(loss.detach()) / config.accumulation
                samples += len(batch["labels"]) * accelerator.num_processes
                audience.show(batch, logits, progress=(step - 1) / steps)
                if meta_level is not None:
                    meta_level.learn(1 / config.accumulation, progress=(step - 1) / steps)
                    if step > meta_level.config.average_from * steps:
                        meta_level.record(logits, batch)
                    meta_level.remember_losses(logits, batch)
                if meta_level is not None and clean is not None:
                    # A pass of its own: padded to its own length, and none of λ's business.
                    clean = to_device(clean, device)
                    if augment is not None:
                        clean = augment(clean)
                    with _synchronized(last, wrapped_model, accelerator):
                        with accelerator.autocast():
                            loss = meta_level.clean_loss(compiled, clean)
                            loss = meta_level.clean_share * loss
                        accelerator.backward(loss / config.accumulation)
                    loss_sum += float(loss.detach()) / config.accumulation
                    samples += len(clean["labels"]) * accelerator.num_processes
            if not math.isfinite(loss_sum):
                raise SamaError(
                    f"{description}: the loss became {loss_sum} at step {step}; lower "
                    "training.optimizer.learning_rate, or set training.clip_norm"
                )
            if config.clip_norm is not None:
                accelerator.clip_grad_norm_(bare_model.parameters(), config.clip_norm)
            wrapped_optimizer.step()
            meta_loss = math.nan
            if meta_level is not None and meta_level.due(step, steps):
                with accelerator.autocast():
                    meta_loss = meta_level.look(bare_model, optimizer)
            schedule.step()
            if averaged is not None:
                averaged.update_parameters(bare_model)
                if meta_level is not None:
                    meta_level.settle(step, steps, averaged)
            curve.append((step, loss_sum, meta_loss))
            track_step(accelerator, description, loss_sum, meta_loss)
            task.advance()
            if best is not None:
                best.look(step, trained)
    if best is not None:
        best.restore(trained)
    _same_buffers(bare_model, averaged, accelerator)
    seconds = time.perf_counter() - started
    return Fit(
        model=bare_model,
        averaged=None if averaged is None else averaged.module,
        seconds=seconds,
        samples_per_second=samples / max(seconds, 1e-9),
        peak_memory_bytes=peak_memory_bytes(device),
        best_step=steps if best is None else best.step,
        curve=curve,
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
    audience: Audience,
) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and the loss to go back from."""

    def forward() -> Tensor:
        with audience.listening():
            return model_logits(model, batch)

    with accelerator.autocast():
        if meta_level is None:
            logits = forward()
            return logits, objective(logits, batch)
        logits = meta_level.base_pass(batch, forward)
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
