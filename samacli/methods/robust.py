"""Training on the noisy rows with what is meant to resist them: another stop, or another loss."""

from __future__ import annotations

from samacli.methods.run import MethodRun, measured
from samacli.training.experiment import Experiment
from samacli.training.robust import EarlyLearning, LossTruncation

# Of every batch, by highest loss: the truth is not looked at, so it is the same for every noise.
TRUNCATION = 0.3
TRUNCATION_WARMUP = 0.25  # of the steps, before losses say anything


def early_stopping(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Training on the noisy rows; of ten states the one that is best on the clean set."""
    run = experiment.fit_plainly(
        experiment.train, seed, f"{name}, seed {seed}", held_out=experiment.clean
    )
    return measured(name, seed, [run], experiment.evaluate(run.model))


def loss_truncation(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """After a warm-up, the highest losses of each batch are dropped (`LossTruncation`)."""
    batches = experiment.steps * experiment.recipe.training.accumulation
    objective = LossTruncation(TRUNCATION, round(TRUNCATION_WARMUP * batches))
    run = experiment.fit_plainly(
        experiment.train, seed, f"{name}, seed {seed}", objective=objective
    )
    return measured(name, seed, [run], experiment.evaluate(run.model))


def elr(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Early-Learning Regularization (`EarlyLearning`), with its paper's strength and momentum."""
    objective = EarlyLearning(
        len(experiment.train),
        len(experiment.splits.classes),
        device=experiment.accelerator.device,
        gather=experiment.accelerator.gather,
    )
    run = experiment.fit_plainly(
        experiment.train, seed, f"{name}, seed {seed}", objective=objective
    )
    return measured(name, seed, [run], experiment.evaluate(run.model))
