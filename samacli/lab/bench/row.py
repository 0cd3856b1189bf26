"""What was measured of one contender in one setting."""

from __future__ import annotations

import dataclasses
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import samacli
from samacli.lab.bench.contenders import Contender
from samacli.lab.bench.setting import Setting


@dataclass(frozen=True)
class Row:
    """Figures are None where `error` says why there are none.

    estimator: its name, with its form where one was asked for; form: the one that ran.
    parameters: of the base model; threads: of each process.
    batch_size: examples a process and step; sequence_length: tokens an example.
    samples_per_second: base-level examples of all processes; the median over the rounds.
    relative_throughput: plain's seconds over the estimator's, chunk by chunk in alternation; the
        median over the rounds, and its quartiles.
    peak_memory_bytes: of the process that took most, see `memory`; relative_memory: over plain's.
    meta_step: seconds of each part, see `breakdown`; derivatives: see `derivatives.Derivative`.
    """

    estimator: str
    form: str | None
    model: str
    parameters: int | None
    batch_size: int
    sequence_length: int
    unroll: int
    world_size: int
    device: str
    device_name: str
    precision: str
    threads: int | None = None
    rounds: int = 0
    steps_per_round: int | None = None
    samples_per_second: float | None = None
    samples_per_second_quartiles: list[float] | None = None
    relative_throughput: float | None = None
    relative_throughput_quartiles: list[float] | None = None
    peak_memory_bytes: int | None = None
    relative_memory: float | None = None
    meta_step: dict[str, float] | None = None
    derivatives: list[dict[str, Any]] | None = None
    error: str | None = None
    seed: int = 0
    torch: str = torch.__version__
    samacli: str = samacli.__version__

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def empty_row(setting: Setting, contender: Contender, facts: dict[str, Any]) -> Row:
    """A row with everything but the figures; facts: see `worker.Worker.ready`."""
    return Row(
        estimator=contender.name,
        form=contender.form,
        model=setting.model,
        parameters=facts.get("parameters"),
        batch_size=setting.batch_size,
        sequence_length=setting.sequence_length,
        unroll=setting.unroll,
        world_size=setting.world_size,
        device=setting.device,
        device_name=facts.get("device_name") or processor_name(),
        precision=setting.precision,
        threads=facts.get("threads"),
        seed=setting.seed,
    )


def median_and_quartiles(values: list[float]) -> tuple[float, list[float]]:
    """The median, and [first quartile, third quartile]."""
    if len(values) == 1:
        return values[0], [values[0], values[0]]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return statistics.median(values), [first, third]


def processor_name() -> str:
    """The CPU's name, as far as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "cpu")
