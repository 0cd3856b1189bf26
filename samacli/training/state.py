"""All that a run of the training loop changes, in one place, to be saved and restored.

`FitState` is what lies between two steps, `StepStart` what a step that fails goes back to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from samacli.data import Batches
from samacli.store.random_state import random_state, restore_random_state
from samacli.store.tree import Tree
from samacli.training.average import MovingAverage
from samacli.training.best_state import BestState
from samacli.training.objective import Batch


@runtime_checkable
class Stateful(Protocol):
    """What remembers something from batch to batch: a meta level, a loss, an onlooker."""

    def state_dict(self) -> Tree: ...

    def load_state_dict(self, state: Tree) -> None: ...


@dataclass
class FitState:
    """A training run between two steps.

    Its state has two parts, what all of several processes share and what is each one's own; what a
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
    averaged: MovingAverage | None
    level: Stateful | None
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
    _unread: list[Tensor] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.step == self.steps

    def note(self, loss: Tensor, meta_loss: Tensor | float, good: Tensor | bool) -> None:
        """What the step just done gave, on the device until it is read."""
        found = [
            x.to(loss) if isinstance(x, Tensor) else loss.new_full((), float(x))
            for x in (self.step, loss, meta_loss, good)
        ]
        self._unread.append(torch.stack(found))

    def read(self) -> list[tuple[int, float, float]]:
        """The curve of the steps noted since the last time, now that the device is asked for it."""
        if not self._unread:
            return []
        rows = torch.stack(self._unread).tolist()
        self._unread.clear()
        for *_, good in rows:
            self.skipped += not good
            self.in_a_row = 0 if good else self.in_a_row + 1
        new = [(int(step), loss, meta_loss) for step, loss, meta_loss, _ in rows]
        self.curve += new
        return new

    def state_dict(self) -> Tree:
        """`shared` by all processes, and each one's `own`; between two steps that were read."""
        return {"shared": self._shared(), "own": self._own()}

    def _shared(self) -> Tree:
        tree: Tree = {
            "model": dict(self.model.state_dict()),
            "averaged": None if self.averaged is None else dict(self.averaged.state_dict()),
            "best": None if self.best is None else self.best.state_dict(),
        }
        if not self.finished:
            tree["optimizer"] = optimizer_state(self.optimizer)
            tree["schedule"] = self.schedule.state_dict()
        return tree

    def _own(self) -> Tree:
        assert isinstance(self.batches, Batches)
        return {
            "random": random_state(self.device),
            "buffers": [dict(module.named_buffers()) for module in self.trained],
            "batches": self.batches.state_dict(),
            "level": None if self.level is None else self.level.state_dict(),
            "onlookers": [
                one.state_dict() if isinstance(one, Stateful) else None for one in self.onlookers
            ],
            "step": self.step,
            "samples": self.samples,
            "seconds": self.seconds,
            "skipped": self.skipped,
            "parts": self.parts,
            "curve": np.array(self.curve, dtype=np.float64).reshape(-1, 3),
        }

    def load_state_dict(self, state: Tree) -> None:
        """Bring a run that has not begun to where another one was."""
        shared, own = state["shared"], state["own"]
        assert isinstance(self.batches, Batches)
        self.model.load_state_dict(shared["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(shared["averaged"])
        if self.best is not None:
            self.best.load_state_dict(shared["best"])
        if "optimizer" in shared:
            restore_optimizer(self.optimizer, shared["optimizer"])
            self.schedule.load_state_dict(shared["schedule"])
        for module, buffers in zip(self.trained, own["buffers"], strict=True):
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name])
        self.batches.load_state_dict(own["batches"])
        if self.level is not None:
            self.level.load_state_dict(own["level"])
        for one, kept in zip(self.onlookers, own["onlookers"], strict=True):
            if isinstance(one, Stateful):
                one.load_state_dict(kept)
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
    def trained(self) -> list[nn.Module]:
        """The model and its moving average, where there is one."""
        return [self.model] if self.averaged is None else [self.model, self.averaged]


class StepStart:
    """Random state and buffers (batch-norm statistics) of a model, taken at the start of each step.

    The copies' memory is used again at every step.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = None if device.type == "cpu" else device
        self._buffers: dict[torch.dtype, list[Tensor]] = {}
        for buffer in model.buffers():
            self._buffers.setdefault(buffer.dtype, []).append(buffer)
        self._copies = {
            dtype: [torch.empty_like(b) for b in buffers]
            for dtype, buffers in self._buffers.items()
        }
        self.take()

    def take(self) -> None:
        """Now is the start of a step."""
        self._host_random = torch.get_rng_state()
        if self._device is not None:
            module = torch.get_device_module(self._device)
            self._device_random = module.get_rng_state(self._device)
        self._copy(self._buffers, self._copies)

    def restore_random_state(self) -> None:
        torch.set_rng_state(self._host_random)
        if self._device is not None:
            module = torch.get_device_module(self._device)
            module.set_rng_state(self._device_random, self._device)

    @torch.no_grad()
    def restore_buffers(self, unless: Tensor | None = None) -> None:
        """unless: a bool () on the device; where it is true, they stay as they are."""
        if unless is None:
            self._copy(self._copies, self._buffers)
            return
        for dtype, buffers in self._buffers.items():
            for buffer, copy in zip(buffers, self._copies[dtype], strict=True):
                buffer.copy_(torch.where(unless, buffer, copy))

    @staticmethod
    @torch.no_grad()
    def _copy(
        source: dict[torch.dtype, list[Tensor]], target: dict[torch.dtype, list[Tensor]]
    ) -> None:
        for dtype, tensors in source.items():
            torch._foreach_copy_(target[dtype], tensors)


def optimizer_state(optimizer: torch.optim.Optimizer) -> Tree:
    """Moments and counters of each parameter by its number, and the settings of each group.

    A tree (`samacli.store.tree`), whatever the optimiser.
    """
    found = optimizer.state_dict()
    return {
        "state": {str(number): dict(values) for number, values in found["state"].items()},
        "groups": [dict(group) for group in found["param_groups"]],
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tree: Tree) -> None:
    """Bring an optimiser over equal parameters, in equal groups, to a state that was saved.

    Raises ValueError if groups or their sizes differ.
    """
    groups = []
    for saved, own in zip(tree["groups"], optimizer.param_groups, strict=True):
        groups.append({name: _like(own.get(name), value) for name, value in saved.items()})
    state = {int(number): values for number, values in tree["state"].items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _like(own: Any, value: Any) -> Any:
    """JSON knows no tuples."""
    return tuple(value) if isinstance(own, tuple) else value
