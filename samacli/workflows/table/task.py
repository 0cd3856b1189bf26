"""What a worker is told: at its start, and for each run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from samacli.training.runtime import DeviceName


@dataclass(frozen=True)
class Options:
    """What all the runs of a worker have in common; jobs: workers beside each other."""

    device: DeviceName
    threads: int
    jobs: int


@dataclass(frozen=True)
class Task:
    """One run; all but the recipe goes into its row as it is."""

    setting: str
    group: str
    method: str
    algorithm: str
    seed: int
    digest: str
    recipe: dict[str, Any]
