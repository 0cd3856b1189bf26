"""A linear probe: logistic regression on what sama's linear belief takes, the pretrained states."""

from __future__ import annotations

import time

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from samacli.data import Encoded, Split
from samacli.errors import SamaError
from samacli.methods.out_of_sample import few_members_are_fine
from samacli.methods.run import MethodRun
from samacli.training.experiment import BELIEF_LAYER, Experiment
from samacli.training.metrics import evaluate
from samacli.training.runtime import peak_memory_bytes, reset_peak_memory

FOLDS = 5
# Inverse strengths of the L2 penalty on standardised features.
STRENGTHS = np.logspace(-5, 0, 6)


def check_clean(experiment: Experiment) -> None:
    """Refuse a clean set that cannot be cross-validated; see `_check`."""
    assert experiment.splits.meta is not None
    _check("linear-probe", "the clean set (data.meta)", experiment.splits.meta)


def check_noisy(experiment: Experiment) -> None:
    """Refuse a training split that cannot be cross-validated; see `_check`."""
    _check("linear-probe-noisy", "the training split", experiment.splits.train)


def clean(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Trained on the clean set."""
    assert experiment.splits.meta is not None
    return _probe(experiment, name, seed, experiment.clean, experiment.splits.meta)


def noisy(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Trained on the training split as it is given."""
    return _probe(experiment, name, seed, experiment.train, experiment.splits.train)


def _check(name: str, what: str, split: Split) -> None:
    """Two classes with two rows each: then every fold of the cross-validation trains on two.

    Raises:
        SamaError: there are fewer.
    """
    if (np.bincount(split.labels[split.labels >= 0]) >= 2).sum() < 2:
        raise SamaError(
            f"{name} chooses its regularisation by cross-validation, which takes two classes of "
            f"two rows each, and {what} has fewer; give more rows, or leave {name} out of "
            "--baselines"
        )


def _probe(
    experiment: Experiment, name: str, seed: int, encoded: Encoded, split: Split
) -> MethodRun:
    """Embed, choose the strength on the probe's own training rows, fit on all of them.

    Takes no optimiser steps of the model; `samples_per_second` is of embedding and fitting, and
    the memory of embedding.
    """
    device = experiment.accelerator.device
    reset_peak_memory(device)
    started = time.perf_counter()
    model = experiment.new_model(seed)
    about = f"{name}: embedding the training rows"
    embeddings = experiment.embed(model, encoded, about, layer=BELIEF_LAYER)
    labelled = split.labels >= 0
    labels = split.labels[labelled]
    folds = min(FOLDS, int(np.bincount(labels).max()))
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": STRENGTHS},
        cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
    )
    with few_members_are_fine():
        search.fit(embeddings[labelled], labels)
    seconds = time.perf_counter() - started
    evaluation = None
    if experiment.test is not None and experiment.splits.test is not None:
        about = f"{name}: embedding the test rows"
        tested = experiment.embed(model, experiment.test, about, layer=BELIEF_LAYER)
        predictions = search.predict(tested)
        evaluation = evaluate(experiment.splits.test.labels, predictions, experiment.splits.classes)
    return MethodRun(
        name=name,
        seed=seed,
        evaluation=evaluation,
        noise=None,
        seconds=seconds,
        steps=0,
        samples_per_second=int(labelled.sum()) / max(seconds, 1e-9),
        peak_memory_bytes=peak_memory_bytes(device),
        model=None,
        scored=None,
    )
