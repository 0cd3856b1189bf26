"""How many labels of the training split are wrong, by a model that has not seen them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from samacli.errors import SamaError
from samacli.methods.out_of_sample import one_part_held_out, train_and_ask
from samacli.pruning.noise_rate import Asked, rate_of_wrong_labels
from samacli.training.experiment import Experiment
from samacli.training.loop import Fit


def wrong_labels_between(
    experiment: Experiment, seeds: Sequence[int]
) -> tuple[tuple[float, float], list[Fit]]:
    """Bounds of the fraction of wrong labels (`rate_of_wrong_labels`), and the runs that it took.

    Each seed holds out another part of the rows. The rest trains a model for as many epochs as any
    other run. It is asked about the rows held out, and about the clean set, where there is one,
    which tells how often it is mistaken.

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
    asked: list[Asked] = []
    fits: list[Fit] = []
    for seed in seeds:
        seen, unseen = one_part_held_out(rows, train.labels, folds, seed)
        name = f"how many labels are wrong, seed {seed}"
        found = train_and_ask(experiment, seed, name, seen, unseen, steps=steps, also_clean=True)
        clean: tuple[np.ndarray, ...] = ()
        if found.clean is not None and experiment.splits.meta is not None:
            clean = softmax(found.clean, axis=1), experiment.splits.meta.labels
        asked.append(Asked(softmax(found.logits, axis=1), train.labels[unseen], *clean))
        fits += found.fits
    return rate_of_wrong_labels(asked), fits
