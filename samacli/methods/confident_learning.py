"""Confident learning: drop what cross-validation finds mislabelled, and train on the rest."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch

from samacli.errors import SamaError, counted
from samacli.methods.out_of_sample import fold_name, predict_out_of_sample
from samacli.methods.run import MethodRun, measured
from samacli.progress import Planned
from samacli.training.experiment import Experiment
from samacli.training.metrics import noise_detection

FOLDS = 3  # each is a training run of its own


def check(experiment: Experiment) -> None:
    """Refuse without cleanlab, or where no class has a row for each fold.

    Raises:
        SamaError: one of both.
    """
    if importlib.util.find_spec("cleanlab") is None:
        raise SamaError(
            "the baseline confident-learning needs cleanlab, which is not installed; run "
            "pip install 'samacli[rivals]', or leave it out of --baselines"
        )
    labels = experiment.splits.train.labels
    largest = int(np.bincount(labels[labels >= 0]).max())
    if largest < FOLDS:
        raise SamaError(
            f"confident-learning cross-validates in {FOLDS} folds, but the largest class of "
            f"{experiment.splits.train.origin} has {counted(largest, 'row')}; give more, or "
            "leave the "
            "baseline out of --baselines"
        )


def planned(experiment: Experiment, name: str, seed: int) -> list[Planned]:
    """The folds', and the final one."""
    folds = [
        experiment.planned(fold_name(name, number, FOLDS, seed), f"{name}, fold {number}")
        for number in range(1, FOLDS + 1)
    ]
    return [*folds, experiment.planned(f"{name}, seed {seed}", name)]


def confident_learning(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Northcutt et al. 2021, by cleanlab's own `find_label_issues` with its defaults.

    Each fold is trained from the same initial model for as many steps as the final run, which
    makes the whole (FOLDS + 1) times as dear as any other method. The noise scores are cleanlab's
    label quality scores (self-confidence).
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    train = experiment.splits.train
    rows = np.flatnonzero(train.labels >= 0)
    labels = train.labels[rows]
    held_out = predict_out_of_sample(experiment, rows, seed, FOLDS, name)
    # double: cleanlab asks that rows sum to 1 closely
    probabilities = torch.from_numpy(held_out.logits).double().softmax(-1).numpy()
    # One process: its workers share the probabilities through a global, by fork.
    issues = find_label_issues(labels, probabilities, n_jobs=1)
    quality = np.ones(len(train))
    quality[rows] = get_label_quality_scores(labels, probabilities)
    noise = None
    if train.true_labels is not None:
        noise = noise_detection(train.labels, train.true_labels, quality)
    final = experiment.fit_plainly(
        experiment.train, seed, f"{name}, seed {seed}", rows=rows[~issues]
    )
    evaluation = experiment.evaluate(final.model)
    return measured(name, seed, [*held_out.fits, final], evaluation, noise=noise)
