"""Which labels of the training split can be trusted, by cross-validation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import log_softmax, logsumexp

from samacli.errors import SamaError
from samacli.pruning.label_noise import LabelNoise, estimate_label_noise
from samacli.training.loop import Fit
from samacli.workflows.experiment import Experiment
from samacli.workflows.out_of_sample import predict_out_of_sample


def label_noise(experiment: Experiment, seeds: Sequence[int]) -> tuple[LabelNoise, list[Fit]]:
    """The estimate of the training split, from held-out predictions averaged over `seeds`.

    Each fold's model takes as many epochs as any other run of the recipe, and learns from the clean
    set too, where there is one.

    Raises:
        SamaError: no class has a row for each fold.
    """
    train, folds = experiment.splits.train, experiment.recipe.prune.folds
    rows = np.flatnonzero(train.labels >= 0)
    largest = int(np.bincount(train.labels[rows], minlength=1).max())
    if largest < folds:
        raise SamaError(
            f"prune.trust=auto cross-validates in {folds} folds (prune.folds), but the largest "
            f"class of {train.origin} has {largest} rows; lower it, or set prune.trust=none"
        )
    steps = max(1, math.ceil(experiment.steps * (folds - 1) / folds))
    believed: list[np.ndarray] = []
    fits: list[Fit] = []
    for seed in seeds:
        found = predict_out_of_sample(
            experiment,
            rows,
            seed,
            folds,
            "held-out predictions",
            steps=steps,
            with_clean=experiment.meta is not None,
        )
        believed.append(log_softmax(found.logits.astype(np.float64), axis=1))
        fits.extend(found.fits)
    logits = np.zeros((len(train), len(experiment.splits.classes)))
    logits[rows] = logsumexp(believed, axis=0)  # of the mean of the probabilities
    return estimate_label_noise(logits, train.labels), fits
