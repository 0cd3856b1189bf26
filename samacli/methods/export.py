"""Training afresh on what a run exports: what its dataset gives whoever trains on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samacli.bilevel.scored import Summary
from samacli.methods.run import MethodRun, measured
from samacli.methods.sama import sama, summary_of
from samacli.training.experiment import Experiment


@dataclass(frozen=True)
class ExportedRows:
    """What is exported of the training rows (n) and of the clean rows (m).

    labels: int64 (n,), corrected where that was learnt, clean where the clean set has the row too,
    else as given; −1 for none. weights: float32 (n,), mean 1 over the noisy rows; of rows that the
    clean set has too 0, since they count there, or 1 where clean rows have no share. clean_weights:
    float32 (m,), None without a share; else that is their part of the sum of all weights.
    """

    labels: np.ndarray
    weights: np.ndarray
    clean_weights: np.ndarray | None


def exported_rows(experiment: Experiment, summary: Summary) -> ExportedRows:
    """The mean over the runs, as `clean.parquet` and the dataset have it."""
    splits, share = experiment.splits, experiment.recipe.reweight.clean_share
    weights = summary.weight.astype(np.float32)
    labels = splits.train.labels if summary.corrected is None else summary.corrected
    of_clean = None
    if splits.meta is not None:
        known = splits.clean_twins >= 0
        labels = np.where(known, splits.meta.labels[splits.clean_twins], labels)
        of_clean = clean_weights(weights, share, len(splits.meta))
        if of_clean is None:
            weights[known] = 1
    return ExportedRows(labels, weights, of_clean)


def clean_weights(weights: np.ndarray, share: float, rows: int) -> np.ndarray | None:
    """float32 (rows,), alike, so that clean rows have that share of the sum of all weights.

    weights: (n,) of the noisy rows, 0 of those that are clean ones too. None for a share of 0.
    """
    if share == 0:
        return None
    each = share / (1 - share) * weights.sum(dtype=float) / rows
    return np.full(rows, each, dtype=np.float32)


def train_on(experiment: Experiment, rows: ExportedRows, name: str, seed: int) -> MethodRun:
    """Plain training from the seed's initial model, as `sama train` does it."""
    run = experiment.fit_weighted(
        seed,
        f"{name}, seed {seed}",
        rows.weights,
        labels=rows.labels,
        clean_weights=rows.clean_weights,
    )
    return measured(name, seed, [run], experiment.evaluate(run.model))


def export(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """SAMA with this seed, then training afresh on what it would export alone."""
    scored = sama(experiment, f"{name}: sama", seed).scored
    assert scored is not None
    rows = exported_rows(experiment, summary_of(experiment, [scored]))
    return train_on(experiment, rows, name, seed)
