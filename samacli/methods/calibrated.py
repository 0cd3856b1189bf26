"""Calibrated probabilities of wrong labels, by models that have not seen the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from samacli.bilevel.calibration import Calibrated, calibrated, too_few
from samacli.errors import counted
from samacli.methods.out_of_sample import fold_name, predict_out_of_sample
from samacli.progress import Planned
from samacli.pruning.noise_rate import given_of_clean, stratum_weights
from samacli.training.experiment import Experiment

NAME = "calibrating P(wrong)"


@dataclass(frozen=True)
class _Known:
    """Clean rows that carry given labels (m,), both labels of each, training rows to ask (k,)."""

    told: np.ndarray
    given: np.ndarray
    true: np.ndarray
    rows: np.ndarray


def _known(experiment: Experiment, folds: int) -> _Known | str:
    """What a map can be fitted on, or why there is none."""
    splits = experiment.splits
    given_to = given_of_clean(splits)
    told = np.flatnonzero(given_to >= 0)
    if splits.meta is None or not len(told):
        return "no clean row carries the label it was given (data.columns.true_label)"
    given, true = given_to[told], splits.meta.labels[told]
    why = too_few(given != true)
    if why is not None:
        return why
    if folds < 2:
        return (
            "every model has seen the rows that it judges; reweight.calibration_folds=5 trains "
            "five more that have not"
        )
    labels = splits.train.labels
    rows = np.flatnonzero((labels >= 0) & (splits.clean_twins < 0))
    largest = int(np.bincount(labels[rows], minlength=1).max())
    if largest < folds:
        return f"the largest class has {counted(largest, 'row')}, which {folds} folds cannot share"
    return _Known(told, given, true, rows)


def planned_folds(experiment: Experiment, seed: int, folds: int) -> list[Planned]:
    """The trainings of `cross_fitted`."""
    if isinstance(_known(experiment, folds), str):
        return []
    return [
        experiment.planned(fold_name(NAME, number, folds, seed), f"{NAME}, a fold held out")
        for number in range(1, folds + 1)
    ]


def cross_fitted(experiment: Experiment, seed: int, folds: int) -> Calibrated | str:
    """P(wrong) of the training rows by cross-validation, or why there is none.

    A plain model is trained on all but each fold, and asked about it and about a part of the clean
    set: how improbable it finds the given label is the score of either. Clean rows that carry given
    labels fit the map from score to probability, each counting as often as its true class occurs
    among the training rows. A row that a model was trained on would score lower than one that it
    was not, and the map would not be its own.

    folds: models to train; 0: none.
    """
    known = _known(experiment, folds)
    if isinstance(known, str):
        return known
    splits, rows = experiment.splits, known.rows
    labels = splits.train.labels
    found = predict_out_of_sample(experiment, rows, seed, folds, NAME, also_clean=True)
    assert found.clean is not None
    raw = np.full(len(labels), np.nan)
    raw[rows] = 1 - softmax(found.logits, axis=1)[np.arange(len(rows)), labels[rows]]
    of_clean = softmax(found.clean[known.told], axis=1)
    clean_raw = 1 - of_clean[np.arange(len(known.told)), known.given]
    shares = np.bincount(labels[rows], minlength=len(splits.classes)).astype(float)
    weight = stratum_weights(known.true, known.given, shares)
    return calibrated(raw, clean_raw, known.given != known.true, weight, seed=seed)
