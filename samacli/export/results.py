"""Results over seeds: gathered by the commands, written to metrics.json, read by the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

from samacli.training.difference import paired_error
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
    right: bool (test rows,) a seed, which were predicted rightly; not in metrics.json.
    paired_errors: see `compare`.
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
    right: list[np.ndarray] = field(default_factory=list)
    curves: list[list[tuple[int, float, float]]] = field(default_factory=list)
    paired_errors: dict[str, float] = field(default_factory=dict)

    def add(
        self, run: Cost, evaluation: Evaluation | None, noise: dict[str, float] | None = None
    ) -> None:
        """Add one seed's run; without a test split its accuracy is not known."""
        if evaluation is not None:
            self.accuracy.append(evaluation.accuracy)
            self.macro_f1.append(evaluation.macro_f1)
            if evaluation.right is not None:
                self.right.append(evaluation.right)
            self.recall.append({row.name: row.recall for row in evaluation.classes})
        self.seconds.append(run.seconds)
        self.samples_per_second.append(run.samples_per_second)
        self.peak_memory_bytes.append(run.peak_memory_bytes)
        self.skipped_steps.append(run.skipped_steps)
        self.rows_seen.append(run.rows_seen)
        self.curves.append(run.curve)
        if noise is not None:
            self.noise.append(noise)

    def compare(self, ours: Mapping[str, Results]) -> None:
        """Note how much the choice of test rows alone may move this accuracy against each of ours,
        by its name."""
        errors = {name: paired_error(one.right, self.right) for name, one in ours.items()}
        self.paired_errors = {name: error for name, error in errors.items() if error is not None}

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
        errors = dict(values.get("paired_errors", {}))
        return cls(**plain, noise=noise, recall=recall, paired_errors=errors)

    def as_dict(self) -> dict[str, Any]:
        by_seed = {"noise_detection": self.noise, "recall": self.recall}
        apart = ("noise", "recall", "right", "curves", "paired_errors")
        errors = {"paired_errors": self.paired_errors} if self.paired_errors else {}
        return (
            {n: v for n, v in vars(self).items() if n not in apart}
            | errors
            | {
                name: {key: [row.get(key) for row in rows] for key in _keys(rows)}
                for name, rows in by_seed.items()
                if rows
            }
        )


def _keys(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Of all seeds: what one could measure (`ece`, say), another may not."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _by_seed(columns: Mapping[str, Sequence[float | None]]) -> list[dict[str, float]]:
    return [
        {key: value for key, value in zip(columns, row, strict=True) if value is not None}
        for row in zip(*columns.values(), strict=True)
    ]
