"""What `sama prune` writes: the columns of its files, the card, and what metrics.json tells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np

import samacli
from samacli.errors import counted
from samacli.export.dataset import dataset_card, with_columns
from samacli.export.metrics import WEIGHT_COLUMN
from samacli.export.ranked_examples import write_pictures, write_texts
from samacli.export.results import Results
from samacli.pruning.duplicates import copies
from samacli.recipe import Recipe
from samacli.runs.prune.scoring import Scores
from samacli.runs.run import Run
from samacli.training.experiment import Experiment


def method_figures(by_keep: dict[str, Results]) -> dict[str, Any]:
    """The figures at the exported keep (or on the full set), and under `by_keep` at each keep."""
    first = next(iter(by_keep.values())).as_dict()
    if "" in by_keep:
        return first
    return {**first, "by_keep": {keep: method.as_dict() for keep, method in by_keep.items()}}


def copies_figures(
    recipe: Recipe, groups: np.ndarray, kept: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """How many rows are copies of another one, and how many of the kept."""
    return {
        "cosine": recipe.prune.duplicates,
        "copies": copies(groups, np.arange(len(groups))),
        "kept": {keep: copies(groups, rows) for keep, rows in kept.items()},
    }


def kept_rows(experiment: Experiment, scores: Scores, chosen: np.ndarray) -> datasets.Dataset:
    weights = scores.summary.weight[chosen]
    return with_columns(
        experiment.splits.train.rows.select(chosen),
        {WEIGHT_COLUMN: ((weights / weights.mean()).astype(np.float32), datasets.Value("float32"))},
    )


def score_columns(
    run: Run,
    scores: Scores,
    kept: Mapping[str, np.ndarray],
    groups: np.ndarray | None,
) -> dict[str, Any]:
    """Columns of `scores.parquet`; `score` ranked the first keep, whose rows `keep` marks."""
    rows = len(run.experiment.train)
    exported, *others = kept

    def marked(keep: str) -> np.ndarray:
        mark = np.zeros(rows, dtype=bool)
        mark[kept[keep]] = True
        return mark

    return {
        **run.score_columns(scores.summary),
        **({} if scores.right is None else {"right": scores.right.astype(np.float32)}),
        **({} if groups is None else {"duplicates": groups}),
        **{
            name: by_keep[exported].astype(np.float32)
            for name, by_keep in scores.rankings.items()
            if name != "sama"
        },
        **{f"score-{keep}": scores.rankings["sama"][keep].astype(np.float32) for keep in others},
        **{f"keep-{keep}": marked(keep) for keep in others},
        "score": scores.rankings["sama"][exported].astype(np.float32),
        "keep": marked(exported),
    }


def write_examples(stage: Path, experiment: Experiment, ranking: np.ndarray) -> None:
    train, classes = experiment.splits.train, experiment.splits.classes
    ranked = (ranking, train.labels, train.rows, train.index, classes)
    columns = experiment.example_columns
    if "image_column" in columns:
        write_pictures(stage / "pictures", *ranked, columns["image_column"])
    else:
        write_texts(stage / "examples.md", *ranked, columns["text_columns"])


def card(experiment: Experiment, scores: Scores, kept: int) -> str:
    recipe = experiment.recipe
    meta, rows = scores.meta_data, len(experiment.train)
    meta = "a clean set" if meta == "clean set" else f"the {meta} itself"
    return dataset_card(
        title="Pruned training data",
        task=recipe.task,
        version=samacli.__version__,
        facts=[
            f"{kept:,} of {counted(rows, 'example')} {'is' if kept == 1 else 'are'} kept, in the "
            "order of the input",
            f"scores learnt by {recipe.meta.method} with {recipe.model.name}, mean over "
            f"{counted(len(recipe.score_seeds), 'run')}; the meta data were {meta}",
            "the accuracies in `metrics.json` were measured with every kept example counting 1",
        ],
        columns={WEIGHT_COLUMN: "how much the example counted for the meta data; mean 1"},
    )
