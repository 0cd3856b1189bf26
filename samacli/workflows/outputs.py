"""What a run of `reweight` or `prune` leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
from transformers import PreTrainedModel

from samacli.export.dataset import write_dataset
from samacli.export.directory import METRICS_FILE, RECIPE_FILE
from samacli.export.metrics import write_metrics
from samacli.export.model import save_model
from samacli.export.scores import write_scores
from samacli.export.suspects import write_suspects
from samacli.recipe import Recipe, dump_recipe
from samacli.workflows.experiment import Experiment
from samacli.workflows.summary import Summary


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
) -> int:
    """Write everything into `stage`; returns the number of suspects.

    rows, card: the exported dataset; scores: columns of `scores.parquet`, a row an input row.
    """
    (stage / RECIPE_FILE).write_text(dump_recipe(recipe), encoding="utf-8")
    write_dataset(rows, stage / "dataset", card)
    write_scores(stage / "scores.parquet", scores)
    suspects = write_suspects(
        stage / "suspects.csv",
        summary.suspects,
        experiment.splits.train.rows,
        experiment.splits.classes,
        **experiment.example_columns,
    )
    save_model(model, experiment.processor, stage / "model")
    write_metrics(stage / METRICS_FILE, {**metrics, "suspects": suspects})
    return suspects
