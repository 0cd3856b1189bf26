"""Training on the noisy rows with what is meant to resist them: another stop, or another loss."""

from __future__ import annotations

from samacli.methods.run import MethodRun, measured
from samacli.training.experiment import Experiment
from samacli.training.robust import EarlyLearning, LossTruncation


def early_stopping(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Training on the noisy rows; of ten states the one that is best on the clean set."""
    run = experiment.fit_plainly(
        experiment.train, seed, f"{name}, seed {seed}", held_out=experiment.clean
    )
    return measured(name, seed, [run], experiment.evaluate(run.model))


def loss_truncation(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """After a warm-up, the highest losses of each batch are dropped (`LossTruncation`)."""
    settings = experiment.recipe.reweight.rivals
    batches = experiment.steps * experiment.recipe.training.accumulation
    objective = LossTruncation(settings.truncation, round(settings.truncation_warmup * batches))
    run = experiment.fit_plainly(
        experiment.train, seed, f"{name}, seed {seed}", objective=objective
    )
    return measured(name, seed, [run], experiment.evaluate(run.model))


def elr(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Early-Learning Regularization (`EarlyLearning`)."""
    settings = experiment.recipe.reweight.rivals
    objective = EarlyLearning(
        len(experiment.train),
        len(experiment.splits.classes),
        strength=settings.elr_lambda,
        momentum=settings.elr_beta,
        device=experiment.accelerator.device,
        gather=experiment.accelerator.gather,
    )
    run = experiment.fit_plainly(
        experiment.train, seed, f"{name}, seed {seed}", objective=objective
    )
    return measured(name, seed, [run], experiment.evaluate(run.model))
