"""How many labels of the training split are wrong, by a model that has not seen them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from samacli.errors import SamaError
from samacli.pruning.label_noise import noise_rate
from samacli.training.loop import Fit
from samacli.workflows.experiment import Experiment
from samacli.workflows.out_of_sample import one_part_held_out, train_and_ask

_CLEAR = 2.0  # standard errors


def most_wrong_labels(experiment: Experiment, seeds: Sequence[int]) -> tuple[float, list[Fit]]:
    """Which fraction of the labels is wrong at most, and the runs that it took.

    From `noise_rate`, whose mean over the seeds, each of which holds out another part of the rows,
    is an upper bound: it and its standard error; or, where clean rows mend it, what they make of it
    and two of its standard errors, if that is less: they are few. 0 where the bound is not above 0
    by two standard errors: without evidence no label is taken for wrong, since what looks most like
    it is what a model needs most.

    The rest trains a model for as many epochs as any other run. It is asked about the rows held
    out, and about the clean set, where there is one, which tells how often it is mistaken.

    Raises:
        SamaError: no class has a row for each part.
    """
    train, folds = experiment.splits.train, experiment.recipe.prune.folds
    rows = np.flatnonzero(train.labels >= 0)
    largest = int(np.bincount(train.labels[rows], minlength=1).max())
    if largest < folds:
        raise SamaError(
            f"prune.trust=auto holds out one of {folds} parts (prune.folds), but the largest "
            f"class of {train.origin} has {largest} rows; lower it, or set prune.trust=none"
        )
    steps = max(1, math.ceil(experiment.steps * (folds - 1) / folds))
    bounds: list[tuple[float, float]] = []
    mended: list[tuple[float, float]] = []
    fits: list[Fit] = []
    for seed in seeds:
        seen, unseen = one_part_held_out(rows, train.labels, folds, seed)
        name = f"how many labels are wrong, seed {seed}"
        found = train_and_ask(experiment, seed, name, seen, unseen, steps=steps, also_clean=True)
        beliefs = softmax(found.logits, axis=1), train.labels[unseen]
        bounds.append(noise_rate(*beliefs))
        if found.clean is not None and experiment.splits.meta is not None:
            clean = softmax(found.clean, axis=1), experiment.splits.meta.labels
            mended.append(noise_rate(*beliefs, *clean))
        fits += found.fits
    return _at_most(bounds, mended), fits


def _at_most(bounds: Sequence[tuple[float, float]], mended: Sequence[tuple[float, float]]) -> float:
    """From rates and their standard errors, one a seed; see `most_wrong_labels`."""
    rate, error = _mean(bounds)
    if rate <= _CLEAR * error:
        return 0.0
    most = rate + error
    if mended:
        rate, error = _mean(mended)
        most = min(most, rate + _CLEAR * error)
    return min(most, 1.0)


def _mean(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    rates, errors = np.array(found).T
    return float(rates.mean()), float(np.sqrt(np.mean(errors**2) / len(errors)))
