"""Cross-validation: what models say of rows that they were not trained on."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold

from samacli.progress import Silent
from samacli.training.experiment import Experiment
from samacli.training.loop import Fit


@dataclass(frozen=True)
class OutOfSample:
    """logits: (m, classes) of the m rows asked about. fits: the folds' runs.

    clean: (k, classes) of the clean set, where it was asked about too and there is one.
    """

    logits: np.ndarray
    fits: list[Fit]
    clean: np.ndarray | None = None


def predict_out_of_sample(
    experiment: Experiment,
    rows: np.ndarray,
    seed: int,
    folds: int,
    description: str,
    *,
    steps: int | None = None,
    also_clean: bool = False,
) -> OutOfSample:
    """Train a model on all but each fold of the training split's `rows` (m,), and ask it about it.

    Folds have classes in their proportions; every model starts from the seed's initial one.

    steps: optimiser steps of each fold's run; None: as many as any other run takes.
    also_clean: ask of the clean set too, each row of one fold's model alone, as training rows are.
    """
    labels = experiment.splits.train.labels[rows]
    logits = np.zeros((len(rows), len(experiment.splits.classes)), dtype=np.float32)
    fits: list[Fit] = []
    clean: np.ndarray | None = None
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with few_members_are_fine():
        parts = list(splitter.split(rows, labels))
    for number, (seen, unseen) in enumerate(parts, start=1):
        name = fold_name(description, number, folds, seed)
        found = train_and_ask(
            experiment, seed, name, rows[seen], rows[unseen], steps=steps, also_clean=also_clean
        )
        logits[unseen] = found.logits
        if found.clean is not None:
            clean = np.zeros_like(found.clean) if clean is None else clean
            clean[number - 1 :: folds] = found.clean[number - 1 :: folds]
        fits += found.fits
    return OutOfSample(logits, fits, clean)


def fold_name(description: str, number: int, folds: int, seed: int) -> str:
    """What a fold's training is called; number: counted from 1."""
    return f"{description}, fold {number} of {folds}, seed {seed}"


def one_part_held_out(
    rows: np.ndarray, labels: np.ndarray, folds: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """`rows` (m,) without one of `folds` parts, and that part; another one for each seed.

    Classes are in their proportions in both. labels: of the whole split.
    """
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with few_members_are_fine():
        seen, unseen = next(iter(splitter.split(rows, labels[rows])))
    return rows[seen], rows[unseen]


def train_and_ask(
    experiment: Experiment,
    seed: int,
    name: str,
    rows: np.ndarray,
    asked: np.ndarray,
    *,
    steps: int | None = None,
    also_clean: bool = False,
) -> OutOfSample:
    """Train a model on `rows` of the training split, and ask it about its rows `asked`.

    name: of this run, a single one. A run that goes on after it does not repeat it.
    also_clean: ask it about the clean set too, if there is one.
    """

    def compute() -> OutOfSample:
        run = experiment.fit_plainly(experiment.train, seed, name, rows=rows, steps=steps)
        logits = experiment.predict(
            run.model, experiment.train, name, rows=asked, progress=Silent()
        )
        clean = None
        if also_clean and experiment.meta is not None:
            clean = experiment.predict(run.model, experiment.meta, name, progress=Silent())
        return OutOfSample(logits, [run], clean)

    return experiment.once(name, OutOfSample, compute)


@contextlib.contextmanager
def few_members_are_fine() -> Iterator[None]:
    """Without the warning that a class has fewer rows than there are folds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        yield
