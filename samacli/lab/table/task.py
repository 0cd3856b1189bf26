"""What a worker is told: at its start, and for each run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from samacli.lab.table.description import Workflow
from samacli.training.runtime import DeviceName


@dataclass(frozen=True)
class Options:
    """What all the runs of a worker have in common.

    jobs: workers beside each other. scores: the folder that keeps what scoring runs found, of a
    table of subsets.
    """

    device: DeviceName
    threads: int
    jobs: int
    scores: str | None = None


@dataclass(frozen=True)
class Run:
    """Which run it is.

    setting, group, method: as the table names them; algorithm: the method's own name.
    digest: of all that the recipe says and that concerns the method, see `plan.Cell`.
    """

    setting: str
    group: str
    method: str
    algorithm: str
    seed: int
    digest: str

    @property
    def names(self) -> dict[str, Any]:
        """These fields alone, without those of a subclass."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Run)}


@dataclass(frozen=True)
class Task(Run):
    """One run to be done; keep: of a method that prunes."""

    recipe: dict[str, Any]
    workflow: Workflow = "reweight"
    keep: float | None = None
