"""One setting of a benchmark: everything that all contenders have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch

from samacli.errors import SamaError
from samacli.lab.bench.models import check_model
from samacli.training.runtime import DeviceName, make_accelerator

CLASSES = 6


@dataclass(frozen=True)
class Setting:
    """What is trained, on what, and where.

    model: a built-in geometry's name, a hub name, or a path.
    batch_size: examples a process; sequence_length: tokens an example.
    unroll: base steps to a meta step; world_size: processes.
    device: "cpu", "cuda" or "mps"; precision: "fp32", or "bf16" by autocast.
    """

    model: str
    batch_size: int
    sequence_length: int
    unroll: int
    world_size: int
    device: str
    precision: str
    seed: int

    @property
    def name(self) -> str:
        """For people: `bert-base, unroll 1, 2 processes`."""
        processes = f"{self.world_size} process{'es' if self.world_size > 1 else ''}"
        return f"{self.model}, unroll {self.unroll}, {processes}"


def settings(
    models: Sequence[str],
    unrolls: Sequence[int],
    world_sizes: Sequence[int],
    *,
    batch_size: int,
    sequence_length: int,
    device: DeviceName,
    precision: Literal["auto", "fp32", "bf16"],
    seed: int,
) -> list[Setting]:
    """Every combination, models outermost.

    Raises:
        SamaError: a model that cannot be had or is too short for the sequences, a device that is
            not there, or more processes than it can take.
    """
    if not models:
        raise SamaError("--model names no model; give for instance --model bert-base")
    for model in models:
        check_model(model, sequence_length)
    accelerator = make_accelerator(device, precision)
    where = accelerator.device.type
    _check_world_sizes(world_sizes, where)
    return [
        Setting(
            model=model,
            batch_size=batch_size,
            sequence_length=sequence_length,
            unroll=unroll,
            world_size=world_size,
            device=where,
            precision="bf16" if accelerator.mixed_precision == "bf16" else "fp32",
            seed=seed,
        )
        for model, unroll, world_size in product(models, unrolls, world_sizes)
    ]


def _check_world_sizes(world_sizes: Sequence[int], device: str) -> None:
    most = max(world_sizes)
    if most > 1 and device == "mps":
        raise SamaError(f"--nproc {most}: on --device mps there is one process; give --nproc 1")
    if device == "cuda" and most > torch.cuda.device_count():
        raise SamaError(
            f"--nproc {most} is more than the {torch.cuda.device_count()} GPU(s) here; "
            "give fewer processes, or --device cpu"
        )
