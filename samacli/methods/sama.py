"""SAMA itself, and SAMA without algorithmic adaptation."""

from __future__ import annotations

from samacli.bilevel.run import fit_sama
from samacli.bilevel.summary import summarize
from samacli.methods.run import MethodRun, measured
from samacli.training.experiment import Experiment


def sama(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Weights (and labels, with `reweight.correction`) learnt from the clean set."""
    return _bilevel(experiment, name, seed, method=None)


def sama_na(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The same with ∂u/∂g taken as the identity."""
    return _bilevel(experiment, name, seed, method="sama-na")


def _bilevel(experiment: Experiment, name: str, seed: int, method: str | None) -> MethodRun:
    """method: None for the recipe's own estimator."""
    config = experiment.recipe.reweight
    run, scored = fit_sama(
        experiment,
        seed,
        f"{name}, seed {seed}",
        features=config.features,
        reweight=config,
        method=method,
    )
    evaluation = experiment.evaluate(run.model)
    noise = summarize([scored], experiment.splits.train).noise
    return measured(name, seed, [run], evaluation, noise=noise, scored=scored)
