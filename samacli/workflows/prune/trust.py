"""How many labels of the training split are wrong, by a model that has not seen them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import softmax
from sklearn.model_selection import StratifiedKFold

from samacli.errors import SamaError
from samacli.pruning.label_noise import noise_rate
from samacli.training.loop import Fit
from samacli.workflows.experiment import Experiment
from samacli.workflows.out_of_sample import train_and_ask
from samacli.workflows.scikit import few_members_are_fine

_CLEAR = 2.0  # standard errors


def most_wrong_labels(experiment: Experiment, seeds: Sequence[int]) -> tuple[float, list[Fit]]:
    """Which fraction of the labels is wrong at most, and the runs that it took.

    The mean of `noise_rate` over the seeds, each of which holds out another part of the rows, and
    its standard error on top; 0 where it is not above 0 by two standard errors: without evidence no
    label is taken for wrong, since what looks most like it is what a model needs most.

    The rest trains a model for as many epochs as any other run. It is asked about the rows held
    out, and about the clean set, where there is one, which tells how often it is mistaken.

    Raises:
        SamaError: there are not as many rows with a label as parts.
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
    rates: list[tuple[float, float]] = []
    fits: list[Fit] = []
    for seed in seeds:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        with few_members_are_fine():
            seen, unseen = (rows[part] for part in next(splitter.split(rows, train.labels[rows])))
        name = f"how many labels are wrong, seed {seed}"
        found = train_and_ask(experiment, seed, name, seen, unseen, steps=steps, also_clean=True)
        clean = found.clean
        rates.append(
            noise_rate(
                softmax(found.logits, axis=1),
                train.labels[unseen],
                None if clean is None else softmax(clean, axis=1),
                None if experiment.splits.meta is None else experiment.splits.meta.labels,
            )
        )
        fits += found.fits
    found_rates, errors = np.array(rates).T
    error = float(np.sqrt(np.mean(errors**2) / len(errors)))
    rate = float(found_rates.mean())
    return (min(1.0, rate + error) if rate > _CLEAR * error else 0.0), fits
