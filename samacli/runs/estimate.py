"""Minutes and memory of a run before it begins, by a step of its own model that is tried out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from samacli.data.batches import Batch
from samacli.progress import Planned, Timetable
from samacli.report.numbers import duration, size
from samacli.store.random_state import random_state, restore_random_state
from samacli.training.experiment import Experiment
from samacli.training.memory import free_memory
from samacli.training.objective import model_logits, to_device, weighted_cross_entropy
from samacli.training.optim import make_optimizer
from samacli.training.runtime import peak_memory_bytes, reset_peak_memory, resident_bytes
from samacli.training.settle import Resolved

# What of a recipe's `auto` a line has room for.
_TOLD = (
    "training.optimizer.learning_rate",
    "training.batch_size",
    "meta.unroll",
    "meta.reweighter",
)
_FIRST_ROWS = 8
_PATIENCE = 4.0  # seconds of one step; a longer one is estimated from fewer rows


@dataclass(frozen=True)
class Estimate:
    """What all trainings take, about; None where no step could be tried.

    seconds_a_row: of one row's pass forward and back. memory_bytes: of this process, or of the GPU.
    """

    seconds: float | None = None
    seconds_a_row: float | None = None
    memory_bytes: int | None = None

    @property
    def text(self) -> str:
        if self.seconds is None or self.memory_bytes is None:
            return "how long is not known: a step of the model could not be tried"
        return f"about {duration(self.seconds)} and {size(self.memory_bytes)} of memory"


def estimate(experiment: Experiment, trainings: Sequence[Planned]) -> Estimate:
    """Try a step of the recipe's model on its training rows; the random state stays as it was.

    A failure is no error: the training itself says better what is wrong.
    """
    if experiment.recipe.training.compile:  # minutes for the first step alone
        return Estimate()
    device = experiment.accelerator.device
    before = random_state(device)
    try:
        seconds_a_row, settled, a_row = _try_steps(experiment)
    except Exception:
        return Estimate()
    finally:
        restore_random_state(before, device)
        free_memory(device)
    largest = max((rows for one in trainings for _, rows in one.rows), default=0.0)
    largest = min(largest, 3.0 * experiment.recipe.training.rows)  # passes of their own
    # The moving average and the direction of a meta step.
    copies = 2 if any(one.kind == "meta" for one in trainings) else 0
    memory = settled + a_row * largest + copies * experiment.model_bytes
    seconds = Timetable(trainings, seconds_a_row).seconds_left
    return Estimate(seconds, seconds_a_row, round(memory))


def plan_line(trainings: Sequence[Planned], found: Estimate, auto: Sequence[Resolved]) -> str:
    """What a run will take, in a line: "takes: 4 trainings of 220 steps, about …"."""
    steps = sorted({one.steps for one in trainings})
    count = f"{len(trainings)} training" + "s" * (len(trainings) != 1)
    of = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
    told = [f"{one.key.rpartition('.')[2]}={one.text}" for one in auto if one.key in _TOLD]
    if len(told) < len(auto):
        told.append(f"{len(auto) - len(told)} more (--dry-run says which, and why)")
    values = f"; auto: {', '.join(told)}" if told else ""
    return f"takes: {count} of {of} steps, {found.text}{values}"


def _try_steps(experiment: Experiment) -> tuple[float, float, float]:
    """Seconds a row; bytes of model, gradients, moments and data; bytes a row of a pass."""
    recipe, accelerator = experiment.recipe, experiment.accelerator
    device, size_of_batch = accelerator.device, recipe.training.rows
    model = experiment.new_model(recipe.seed)
    model.train()
    optimizer = make_optimizer(model, recipe.training.optimizer)
    batch = to_device(
        next(experiment.endless(experiment.train, size_of_batch, recipe.seed)), device
    )
    rows = len(batch["labels"])

    def step(batch: Batch) -> float:
        began = time.perf_counter()
        with accelerator.autocast():
            loss = weighted_cross_entropy(model_logits(model, batch), batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # which waits for a GPU
        return time.perf_counter() - began

    few = {name: value[:_FIRST_ROWS] for name, value in batch.items()}
    first = step(few)  # slower than others: kernels are chosen, moments made
    tried = few if first * rows / len(few["labels"]) > _PATIENCE else batch
    settled = _bytes_now(device)
    reset_peak_memory(device)
    took = step(tried)
    if took < _PATIENCE / 8:
        took = min(took, step(tried))
    count = len(tried["labels"])
    a_row = max(0, peak_memory_bytes(device) - settled) / count
    return took / count, settled, a_row


def _bytes_now(device: torch.device) -> float:
    """Allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return float(torch.cuda.memory_allocated(device))
    return float(resident_bytes("VmRSS") or 0)
