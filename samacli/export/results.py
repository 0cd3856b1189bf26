"""Results over seeds: gathered by the commands, written to metrics.json, read by the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from samacli.training.metrics import Evaluation


class Cost(Protocol):
    """What a run took: a `Fit`, or a `MethodRun`."""

    @property
    def seconds(self) -> float: ...
    @property
    def samples_per_second(self) -> float: ...
    @property
    def peak_memory_bytes(self) -> int: ...
    @property
    def skipped_steps(self) -> int: ...
    @property
    def curve(self) -> list[tuple[int, float, float]]: ...
    @property
    def rows_seen(self) -> int: ...


@dataclass
class Results:
    """Of one way of training, a value a seed.

    skipped_steps: of training, those whose loss or gradient was not finite.
    rows_seen: rows that went forward and backward through the model, each time counted (`Fit`).
    recall: of each class by name, a dict a seed.
    noise: how well the method's own scores find wrong labels, a dict a seed (`noise_detection`);
    empty for a method without scores, or where the truth is not known.
    curves: (step, base loss, meta loss or nan), a list a seed; not in metrics.json.
    """

    accuracy: list[float] = field(default_factory=list)
    macro_f1: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    samples_per_second: list[float] = field(default_factory=list)
    peak_memory_bytes: list[int] = field(default_factory=list)
    skipped_steps: list[int] = field(default_factory=list)
    rows_seen: list[int] = field(default_factory=list)
    noise: list[dict[str, float]] = field(default_factory=list)
    recall: list[dict[str, float]] = field(default_factory=list)
    curves: list[list[tuple[int, float, float]]] = field(default_factory=list)

    def add(
        self, run: Cost, evaluation: Evaluation | None, noise: dict[str, float] | None = None
    ) -> None:
        """Add one seed's run; without a test split its accuracy is not known."""
        if evaluation is not None:
            self.accuracy.append(evaluation.accuracy)
            self.macro_f1.append(evaluation.macro_f1)
            self.recall.append({row.name: row.recall for row in evaluation.classes})
        self.seconds.append(run.seconds)
        self.samples_per_second.append(run.samples_per_second)
        self.peak_memory_bytes.append(run.peak_memory_bytes)
        self.skipped_steps.append(run.skipped_steps)
        self.rows_seen.append(run.rows_seen)
        self.curves.append(run.curve)
        if noise is not None:
            self.noise.append(noise)

    @property
    def average_precision(self) -> list[float]:
        """Of finding wrong labels by the method's own scores, one a seed."""
        return [noise["average_precision"] for noise in self.noise]

    @property
    def auroc(self) -> list[float]:
        """Of finding wrong labels by the method's own scores, one a seed."""
        return [noise["auroc"] for noise in self.noise]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `as_dict` gave, as metrics.json has it: null for what is not known is left out."""
        plain = {
            name: [value for value in values[name] if value is not None]
            for name in cls.__dataclass_fields__
            if isinstance(values.get(name), list)
        }
        noise, recall = (_by_seed(values.get(name, {})) for name in ("noise_detection", "recall"))
        return cls(**plain, noise=noise, recall=recall)

    def as_dict(self) -> dict[str, Any]:
        by_seed = {"noise_detection": self.noise, "recall": self.recall}
        return {n: v for n, v in vars(self).items() if n not in ("noise", "recall", "curves")} | {
            name: {key: [row[key] for row in rows] for key in rows[0]}
            for name, rows in by_seed.items()
            if rows
        }


def _by_seed(columns: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
