"""What was measured in one run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from samacli.lab.table.task import Run


@dataclass(frozen=True)
class Row(Run):
    """A line of the results file.

    noise: average precision and AUROC of the method's own scores against wrong labels, and the
        noise rate; None where a method doesn't judge examples or the truth is not known.
    recall: of each class. rows: of each split.
    seconds: of training; wall_seconds: with scoring and testing, without reading the data.
    parts: seconds by name, of a run that has several parts.
    jobs: runs at a time on this machine. commit: short, with a + where files were changed since.
    """

    accuracy: float | None
    macro_f1: float | None
    recall: dict[str, float] | None
    noise: dict[str, float] | None
    seconds: float
    wall_seconds: float
    steps: int
    samples_per_second: float
    peak_memory_bytes: int
    rows: dict[str, int]
    device: str
    device_name: str
    precision: str
    threads: int
    jobs: int
    torch: str
    transformers: str
    samacli: str
    commit: str | None
    finished: str
    parts: dict[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Row:
        """Raises TypeError or KeyError where it is no row; unknown fields are left out."""
        rows_may_lack = {"parts"}  # they were written before it came
        return Row(
            **{
                field.name: values[field.name]
                for field in dataclasses.fields(Row)
                if field.name in values or field.name not in rows_may_lack
            }
        )

    @property
    def place(self) -> tuple[str, str, int, int]:
        """Times are comparable where this is the same."""
        return self.device, self.device_name, self.threads, self.jobs
