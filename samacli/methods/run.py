"""What one method gave with one seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedModel

from samacli.bilevel.scored import Scored
from samacli.training.loop import Fit
from samacli.training.metrics import Evaluation


@dataclass(frozen=True)
class MethodRun:
    """One method, one seed, measured.

    evaluation: on the test split; None where there is none.
    noise: noise_rate, average_precision and auroc of the method's own scores against wrong labels,
        as `noise_detection` gives them; None where it has no scores or the truth is not known.
    seconds: of training, the test left out. steps: optimiser steps, all parts of the method
        together (0 for one that takes none).
    samples_per_second: training examples a second, of all processes.
    peak_memory_bytes: see `samacli.training.runtime.peak_memory_bytes`.
    model: the trained model; None for a method that has none to export.
    scored: what was learnt of each training row, by the methods that weigh them.
    skipped_steps: those without an update, because loss or gradient was not finite.
    curve: (step, base loss, meta loss or nan) for each step, of all parts one after the other.
    rows_seen: see `Fit`; of all parts together.
    parts: seconds by name, of a run that has several parts.
    """

    name: str
    seed: int
    evaluation: Evaluation | None
    noise: dict[str, float] | None
    seconds: float
    steps: int
    samples_per_second: float
    peak_memory_bytes: int
    model: PreTrainedModel | None
    scored: Scored | None
    skipped_steps: int = 0
    curve: list[tuple[int, float, float]] = field(default_factory=list)
    parts: dict[str, float] | None = None
    rows_seen: int = 0


def measured(
    name: str,
    seed: int,
    fits: Sequence[Fit],
    evaluation: Evaluation | None,
    *,
    noise: dict[str, float] | None = None,
    scored: Scored | None = None,
) -> MethodRun:
    """A method that took one run of the training loop or several; the last one's model counts."""
    seconds = sum(fit.seconds for fit in fits)
    samples = sum(fit.samples_per_second * fit.seconds for fit in fits)
    return MethodRun(
        name=name,
        seed=seed,
        evaluation=evaluation,
        noise=noise,
        seconds=seconds,
        steps=sum(len(fit.curve) for fit in fits),
        samples_per_second=samples / max(seconds, 1e-9),
        peak_memory_bytes=max(fit.peak_memory_bytes for fit in fits),
        model=fits[-1].model,
        scored=scored,
        skipped_steps=sum(fit.skipped_steps for fit in fits),
        curve=_joined(fits),
        rows_seen=sum(fit.rows_seen for fit in fits),
    )


def _joined(fits: Sequence[Fit]) -> list[tuple[int, float, float]]:
    losses = [values for fit in fits for _, *values in fit.curve]
    return [(step, loss, meta) for step, (loss, meta) in enumerate(losses, start=1)]
