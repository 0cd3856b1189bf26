"""What one would try instead of weights: other rows, another order, another stop, another loss.

Methods that see the clean set take no training row for noisy that it has too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from samacli.data import Encoded
from samacli.data.batches import Beside
from samacli.methods.run import MethodRun, measured
from samacli.methods.sama import clean_rows, known_labels
from samacli.progress import Planned
from samacli.training.experiment import Experiment
from samacli.training.loop import Fit
from samacli.training.objective import (
    CleanBeside,
    ForwardCorrection,
    Objective,
    weighted_cross_entropy,
)
from samacli.training.robust import EarlyLearning, LossTruncation

# Of every batch, by highest loss: the truth is not looked at, so it is the same for every noise.
TRUNCATION = 0.3
TRUNCATION_WARMUP = 0.25  # of the steps, before losses say anything

_Part = tuple[Encoded, np.ndarray | None]  # a split, and which of its rows; None: all


def noisy(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The training split as it is given."""
    run = experiment.fit_plainly(experiment.train, seed, f"{name}, seed {seed}")
    return measured(name, seed, [run], experiment.evaluate(run.model))


def clean(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The clean set alone."""
    run = experiment.fit_plainly(experiment.clean, seed, f"{name}, seed {seed}")
    return measured(name, seed, [run], experiment.evaluate(run.model))


def mixed(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Each step a batch of the training split and, beside it, clean rows: as many as sama's steps
    have, with the same share of the loss; where that share is 0, in one loss, each row counting 1.

    What both have is clean.
    """
    if experiment.recipe.reweight.clean_share == 0:
        noisy, rows = experiment.splits.noisy_rows, None
        if noisy is not None:
            rows = np.concatenate([noisy, len(experiment.train) + np.arange(len(experiment.clean))])
        run = experiment.fit_plainly(
            experiment.train_and_meta, seed, f"{name}, seed {seed}", rows=rows
        )
    else:
        run = _beside_clean(experiment, name, seed, weighted_cross_entropy)
    return measured(name, seed, [run], experiment.evaluate(run.model))


def forward_correction(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """As `mixed`, and given labels count through the transition that sama's beliefs start from."""
    likelihood = known_labels(experiment).likelihood(np.arange(len(experiment.clean)))
    objective = ForwardCorrection(likelihood.to(experiment.accelerator.device))
    run = _beside_clean(experiment, name, seed, objective)
    return measured(name, seed, [run], experiment.evaluate(run.model))


def _beside_clean(experiment: Experiment, name: str, seed: int, objective: Objective) -> Fit:
    """Both kinds of rows at sama's share and batch sizes; objective: of the training rows."""
    recipe = experiment.recipe
    noisy = experiment.noisy_batches(seed)
    batches = Beside(noisy, "clean", 0, None, experiment.clean_batches(seed))
    return experiment.run_loop(
        experiment.new_model(seed),
        batches,
        None,
        seed,
        f"{name}, seed {seed}",
        objective=CleanBeside(recipe.reweight.clean_share, objective),
    )


def planned_beside(experiment: Experiment, name: str, seed: int) -> list[Planned]:
    """The training of `_beside_clean`, and of what is exported."""
    one = experiment.planned(f"{name}, seed {seed}", name)
    if experiment.recipe.reweight.clean_share == 0:
        return [one]
    return [replace(one, rows=((1.0, one.rows[0][1] + clean_rows(experiment)),))]


def clean_then_noisy(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The first half of the steps on the clean set, the second on the training split."""
    parts = (experiment.clean, None), (experiment.train, experiment.splits.noisy_rows)
    return _halves(experiment, name, seed, *parts)


def noisy_then_clean(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The first half of the steps on the training split, the second on the clean set."""
    parts = (experiment.train, experiment.splits.noisy_rows), (experiment.clean, None)
    return _halves(experiment, name, seed, *parts)


def _halves(experiment: Experiment, name: str, seed: int, first: _Part, second: _Part) -> MethodRun:
    """Each half has an optimiser and a schedule of its own, as two fine-tunings would have."""
    steps = experiment.steps
    half = max(1, steps // 2)
    one = experiment.fit_plainly(
        first[0], seed, f"{name}, first half, seed {seed}", rows=first[1], steps=half
    )
    two = experiment.fit_plainly(
        second[0],
        seed,
        f"{name}, second half, seed {seed}",
        rows=second[1],
        model=one.model,
        steps=max(1, steps - half),
    )
    return measured(name, seed, [one, two], experiment.evaluate(two.model))


def planned_halves(experiment: Experiment, name: str, seed: int) -> list[Planned]:
    """The trainings of `_halves`."""
    half = max(1, experiment.steps // 2)
    rest = max(1, experiment.steps - half)
    first = experiment.planned(
        f"{name}, first half, seed {seed}", f"{name}, first half", steps=half
    )
    return [
        replace(first, after=0.0),
        experiment.planned(f"{name}, second half, seed {seed}", f"{name}, second half", steps=rest),
    ]


def early_stopping(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Training on the noisy rows; of ten states the one that is best on the clean set."""
    run = experiment.fit_plainly(
        experiment.train,
        seed,
        f"{name}, seed {seed}",
        rows=experiment.splits.noisy_rows,
        held_out=experiment.clean,
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
