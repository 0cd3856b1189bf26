"""Optimisers and learning-rate schedules of the base level."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from samacli.errors import SamaError
from samacli.recipe import Optimizer, Training
from samacli.recipe.optimizers import keyword_arguments, optimizer_class

_SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


def make_optimizer(model: nn.Module, config: Optimizer) -> torch.optim.Optimizer:
    """The recipe's, over the trainable parameters; biases and norms decay only if asked.

    Raises:
        SamaError: the optimiser refuses these parameters, as Muon does those that are no matrices.
    """
    config = config.alone
    kind = optimizer_class(config.name)
    trained = [p for p in model.parameters() if p.requires_grad]
    decay_norms = config.weight_decay if config.decay_norms else 0.0
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": decay_norms},
    ]
    groups = [group for group in groups if group["params"]]
    try:
        return kind(groups, **keyword_arguments(kind, config.given))
    except ValueError as error:
        raise SamaError(
            f"training.optimizer.name: {kind.__name__} can't train this model: {error}; "
            "name another, or leave out what it can't train (model.freeze)"
        ) from error


def make_schedule(optimizer: torch.optim.Optimizer, config: Training, steps: int) -> LambdaLR:
    """Warm-up, then the recipe's schedule, over `steps` optimiser steps."""
    warmup = round(config.warmup * steps)
    if config.schedule == "one-cycle":
        return LambdaLR(optimizer, lambda step: one_cycle(step, warmup, steps))
    return get_scheduler(
        _SCHEDULES[config.schedule],
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=steps,
    )


def one_cycle(step: int, warmup: int, steps: int) -> float:
    """The rate at a step (from 0) over its peak, which is reached at step warmup − 1.

    A cosine from 1/25 up to 1, then one down to 1/250,000: `torch.optim.lr_scheduler.OneCycleLR`
    with its defaults (Smith and Topin 2018), which itself divides by 0 in runs of a few steps.
    """
    peak, last = max(warmup - 1, 0), max(steps - 1, 1)
    if step < peak:
        return _cosine(1 / 25, 1.0, step / peak)
    return _cosine(1.0, 1 / 250_000, min((step - peak) / max(last - peak, 1), 1.0))


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
