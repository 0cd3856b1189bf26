"""What a run of `reweight` or `prune` leaves behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedModel

from samacli.bilevel.summary import Summary
from samacli.export.dataset import write_dataset
from samacli.export.metrics import write_metrics, write_scores
from samacli.export.model import save_model
from samacli.export.suspects import Suspects, write_suspects
from samacli.export.training_curves import (
    LEARNING_FILE,
    WEIGHT_FILE,
    Curve,
    write_learning,
    write_weight_functions,
)
from samacli.progress import Progress
from samacli.recipe import Recipe, dump_recipe
from samacli.report import REPORT_FILE, build_report
from samacli.store.output import METRICS_FILE, RECIPE_FILE
from samacli.training.experiment import Experiment


def write_outputs(
    stage: Path,
    experiment: Experiment,
    recipe: Recipe,
    summary: Summary,
    *,
    rows: datasets.Dataset,
    card: str,
    scores: dict[str, Any],
    model: PreTrainedModel,
    metrics: dict[str, Any],
    curves: Mapping[str, Sequence[Curve]] | None = None,
) -> int:
    """Write everything into `stage`; returns the number of suspects.

    rows, card: the exported dataset; scores: columns of `scores.parquet`, a row an input row;
    curves: learning curves of each training, one a seed (of pruning's scores, one a run of those).
    """
    (stage / RECIPE_FILE).write_text(dump_recipe(recipe), encoding="utf-8")
    write_dataset(rows, stage / "dataset", card)
    write_scores(stage / "scores.parquet", scores)
    suspects = write_suspects(
        stage / "suspects.csv",
        _suspects(summary),
        experiment.splits.train.rows,
        experiment.splits.classes,
        **experiment.example_columns,
    )
    save_model(model, experiment.processor, stage / "model")
    write_learning(stage / LEARNING_FILE, curves or {}, recipe.seed)
    write_weight_functions(
        stage / WEIGHT_FILE, summary.weight_functions, experiment.splits.classes, recipe.seed
    )
    write_metrics(
        stage / METRICS_FILE,
        {
            **metrics,
            "suspects": suspects,
            "classes": experiment.splits.classes,
            "columns": experiment.example_columns,
        },
    )
    _report(stage, experiment.progress)
    return suspects


def _report(stage: Path, progress: Progress) -> None:
    try:
        build_report(stage)
    except Exception as error:  # it is made from the files alone: hours of training are not lost
        progress.warn(
            f"{REPORT_FILE} could not be made ({type(error).__name__}: {error}); everything else "
            "is written, and `sama report DIR` tries again"
        )


def _suspects(summary: Summary) -> Suspects:
    """The suggested label is the corrected one, or else the model's own prediction."""
    return Suspects(
        index=summary.train.index,
        given=summary.train.labels,
        suggested=summary.prediction if summary.corrected is None else summary.corrected,
        weight=summary.weight,
        loss=summary.loss,
        probability=summary.mislabelled,
    )
