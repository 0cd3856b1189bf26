"""The noisy rows and the clean ones, one after the other, on one model."""

from __future__ import annotations

from samacli.data import Encoded
from samacli.methods.run import MethodRun, measured
from samacli.training.experiment import Experiment


def clean_then_noisy(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The first half of the steps on the clean set, the second on the training split."""
    return _halves(experiment, name, seed, experiment.clean, experiment.train)


def noisy_then_clean(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The first half of the steps on the training split, the second on the clean set."""
    return _halves(experiment, name, seed, experiment.train, experiment.clean)


def _halves(
    experiment: Experiment, name: str, seed: int, first: Encoded, second: Encoded
) -> MethodRun:
    """Each half has an optimiser and a schedule of its own, as two fine-tunings would have."""
    steps = experiment.steps
    half = max(1, steps // 2)
    one = experiment.fit_plainly(first, seed, f"{name}, first half, seed {seed}", steps=half)
    two = experiment.fit_plainly(
        second,
        seed,
        f"{name}, second half, seed {seed}",
        model=one.model,
        steps=max(1, steps - half),
    )
    return measured(name, seed, [one, two], experiment.evaluate(two.model))
