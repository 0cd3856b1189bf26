"""Ordinary training: on the noisy rows, on the clean ones, or on both together."""

from __future__ import annotations

from samacli.methods.run import MethodRun, measured
from samacli.training.experiment import Experiment


def noisy(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The training split as it is given."""
    run = experiment.fit_plainly(experiment.train, seed, f"{name}, seed {seed}")
    return measured(name, seed, [run], experiment.evaluate(run.model))


def clean(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The clean set alone."""
    run = experiment.fit_plainly(experiment.clean, seed, f"{name}, seed {seed}")
    return measured(name, seed, [run], experiment.evaluate(run.model))


def mixed(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Training split and clean set in one loss, each row counting 1."""
    run = experiment.fit_plainly(experiment.train_and_meta, seed, f"{name}, seed {seed}")
    return measured(name, seed, [run], experiment.evaluate(run.model))
