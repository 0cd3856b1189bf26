"""All that a run of the training loop changes, in one place, to be saved and restored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from samacli.bilevel.meta_level import MetaLevel
from samacli.data import Batches
from samacli.store.tree import Tree
from samacli.training.best_state import BestState
from samacli.training.objective import Batch
from samacli.training.optimizer_state import optimizer_state, restore_optimizer
from samacli.training.random_state import random_state, restore_random_state


@runtime_checkable
class Stateful(Protocol):
    """A loss or an onlooker that remembers something from batch to batch."""

    def state(self) -> Tree: ...

    def restore(self, state: Tree) -> None: ...


@dataclass
class FitState:
    """A training run between two steps.

    shared: what all of several processes have alike, `own`: what each has for itself. What a
    finished run needs no more is left out of both.

    onlookers: the loss, and whatever else may be `Stateful`.
    step: optimiser steps that are done, of `steps`. samples: examples so far, of all processes.
    seconds: of the loop, in earlier processes that the run was cut off in too. skipped: steps
    without an update, because the loss was not finite; in_a_row: those just now.
    parts: that every batch is taken in, because memory was short.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    averaged: AveragedModel | None
    level: MetaLevel | None
    best: BestState | None
    batches: Iterator[Batch]
    onlookers: list[Any]
    steps: int
    device: torch.device
    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    skipped: int = 0
    in_a_row: int = 0
    parts: int = 1
    curve: list[tuple[int, float, float]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.step == self.steps

    def shared(self) -> Tree:
        tree: Tree = {
            "model": dict(self.model.state_dict()),
            "averaged": None if self.averaged is None else dict(self.averaged.state_dict()),
            "best": None if self.best is None else self.best.state(),
        }
        if not self.finished:
            tree["optimizer"] = optimizer_state(self.optimizer)
            tree["schedule"] = self.schedule.state_dict()
        return tree

    def own(self) -> Tree:
        assert isinstance(self.batches, Batches)
        return {
            "random": random_state(self.device),
            "buffers": [dict(module.named_buffers()) for module in self._modules],
            "batches": self.batches.state(),
            "level": None if self.level is None else self.level.state(),
            "onlookers": [
                one.state() if isinstance(one, Stateful) else None for one in self.onlookers
            ],
            "step": self.step,
            "samples": self.samples,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "parts": self.parts,
            "curve": np.array(self.curve, dtype=np.float64).reshape(-1, 3),
        }

    def restore(self, shared: Tree, own: Tree) -> None:
        """Bring a run that has not begun to where another one was."""
        assert isinstance(self.batches, Batches)
        self.model.load_state_dict(shared["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(shared["averaged"])
        if self.best is not None:
            self.best.go_on(shared["best"])
        if "optimizer" in shared:
            restore_optimizer(self.optimizer, shared["optimizer"])
            self.schedule.load_state_dict(shared["schedule"])
        for module, buffers in zip(self._modules, own["buffers"], strict=True):
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        self.batches.restore(own["batches"])
        if self.level is not None:
            self.level.restore(own["level"], self.model, self.optimizer)
        for one, state in zip(self.onlookers, own["onlookers"], strict=True):
            if isinstance(one, Stateful):
                one.restore(state)
        for name in ("step", "samples", "seconds", "skipped", "parts"):
            setattr(self, name, own[name])
        self.curve = [(int(step), loss, meta) for step, loss, meta in own["curve"].tolist()]
        # Last: opening the batches has drawn from it.
        restore_random_state(own["random"], self.device)

    @property
    def healthy(self) -> bool:
        """Whether all that is trained is finite, so that it is worth going on from."""
        trained: list[Tensor] = [p for p in self.model.parameters() if p.requires_grad]
        return self.in_a_row == 0 and bool(torch.nn.utils.get_total_norm(trained).isfinite())

    @property
    def _modules(self) -> list[nn.Module]:
        return [self.model] if self.averaged is None else [self.model, self.averaged]
