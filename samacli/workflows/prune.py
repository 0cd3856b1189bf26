"""`sama prune`: keep the part of the data that training needs.

sources → SAMA scores → selection → retraining beside the baselines → kept dataset, scores, metrics
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

import samacli
from samacli.data.table import Table
from samacli.export.dataset import WEIGHT_COLUMN, dataset_card, with_columns
from samacli.export.directory import check_output, staged
from samacli.export.scores import class_names
from samacli.progress import Progress, Silent
from samacli.pruning.selection import (
    keep_count,
    keep_highest,
    keep_highest_by_class,
    keep_random,
    lost_classes,
)
from samacli.recipe import Recipe, resolve_paths
from samacli.training.runtime import DeviceName
from samacli.workflows.bilevel import Scored, fit_sama
from samacli.workflows.experiment import Experiment
from samacli.workflows.outputs import write_outputs
from samacli.workflows.results import Method, environment
from samacli.workflows.summary import Summary, summarize

CLEAN_META = (
    "the meta data are the clean set: the score asks which examples help on clean data, so "
    "mislabelled examples are pruned first"
)
SELF_META = (
    "there is no clean set, so the training data are their own meta data: the score keeps what is "
    "hard to learn, and wrong labels are hard to learn. If labels may be wrong, give --meta FILE "
    "(or data.meta=train data.meta_per_class=10); 10 clean examples a class are enough to start"
)


@dataclass(frozen=True)
class PruneResult:
    """What `prune` measured and wrote.

    methods: by name; for `sama` and `random` one `Method` for each keep, under its text ("0.7").
    kept: rows of the exported dataset.
    """

    output: Path
    methods: dict[str, dict[str, Method]]
    noise: dict[str, float] | None
    kept: int
    suspects: int
    metrics: dict[str, Any]


def prune(
    recipe: Recipe,
    output: Path,
    *,
    overwrite: bool = False,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    tables: Mapping[str, Table] | None = None,
) -> PruneResult:
    """Run a recipe and write its results to `output`, whole or not at all.

    The score of an example is its weight averaged over the later steps and over the recipe's runs;
    the highest are kept. Every keep of the recipe is measured by retraining from scratch, for the
    same number of steps, once a seed; the first keep is exported. Of several processes the first
    writes.

    tables: rows that a program has already, by the name that the recipe calls them.

    Raises:
        SamaError: anything wrong with the recipe, its data, or `output`.
    """
    progress = progress or Silent()
    check_output(output, overwrite=overwrite)
    recipe = resolve_paths(recipe)
    started = time.perf_counter()
    experiment = Experiment.prepare(recipe, device=device, progress=progress, tables=tables)
    rows = len(experiment.train)
    counts = {f"{keep:g}": keep_count(keep, rows) for keep in recipe.prune.keep}
    if experiment.meta is None:
        progress.warn(SELF_META)
    else:
        progress.note(CLEAN_META)

    scored: list[Scored] = []
    scoring = Method()
    for seed in recipe.seeds:
        run, scores = fit_sama(
            experiment, seed, f"sama scores, seed {seed}", features=recipe.prune.features
        )
        scored.append(scores)
        scoring.add(run, None)
        del run
    summary = summarize(scored, experiment.splits.train)
    labels = experiment.splits.train.labels
    kept = {
        text: keep_highest_by_class(summary.weight, labels, count)
        if recipe.prune.class_balanced
        else keep_highest(summary.weight, count)
        for text, count in counts.items()
    }
    exported_keep = next(iter(counts))
    chosen = kept[exported_keep]
    lost = lost_classes(experiment.splits.train.labels, chosen)
    if lost:
        names = ", ".join(experiment.splits.classes[i] for i in lost)
        progress.warn(f"at keep {exported_keep} no example is left of: {names}; keep more")

    methods, model = _retrain(experiment, counts, kept, exported_keep)
    metrics = {
        "workflow": "prune",
        "seeds": recipe.seeds,
        "steps": experiment.steps,
        "rows": {**experiment.sizes, "kept": len(chosen)},
        "meta_data": "training set" if experiment.meta is None else "clean set",
        "keep": counts,
        "methods": {name: _as_dict(by_keep) for name, by_keep in methods.items()},
        "noise_detection": summary.noise,
        "seconds": time.perf_counter() - started,
        "samples_per_second": scoring.samples_per_second,
        "peak_memory_bytes": max(scoring.peak_memory_bytes),
        "processes": experiment.accelerator.num_processes,
        "environment": environment(experiment.accelerator.device),
    }
    suspects = 0
    if experiment.accelerator.is_main_process:
        with staged(output, overwrite=overwrite) as stage:
            suspects = write_outputs(
                stage,
                experiment,
                recipe,
                summary,
                rows=_kept_rows(experiment, summary, chosen),
                card=_card(experiment, len(chosen)),
                scores=_score_columns(experiment, summary, chosen),
                model=model,
                metrics=metrics,
            )
    return PruneResult(output, methods, summary.noise, len(chosen), suspects, metrics)


def _retrain(
    experiment: Experiment, counts: dict[str, int], kept: dict[str, np.ndarray], exported: str
) -> tuple[dict[str, dict[str, Method]], Any]:
    """Every method at every keep, once a seed; and the model trained on the exported rows."""
    recipe = experiment.recipe
    baselines = recipe.prune.baselines
    if experiment.test is None:
        experiment.progress.note(
            "there is no test split, so only the model on the kept rows is trained: nothing would "
            "tell the baselines apart; give --test FILE to compare"
        )
        baselines = []
    methods: dict[str, dict[str, Method]] = {}
    model = None

    def retrain(name: str, keep: str, seed: int, rows: np.ndarray | None) -> Any:
        description = f"{name} at {keep}, seed {seed}" if keep else f"{name}, seed {seed}"
        run = experiment.fit_plainly(experiment.train, seed, description, rows=rows)
        by_keep = methods.setdefault(name, {})
        by_keep.setdefault(keep, Method()).add(run, experiment.evaluate(run.model))
        return run.model

    for seed in recipe.seeds:
        if "full" in baselines:
            retrain("full", "", seed, None)
        for keep, count in counts.items():
            if "random" in baselines:
                retrain("random", keep, seed, keep_random(len(experiment.train), count, seed))
            if experiment.test is not None or (keep == exported and model is None):
                trained = retrain("sama", keep, seed, kept[keep])
                if keep == exported and model is None:
                    model = trained
    return methods, model


def _as_dict(by_keep: dict[str, Method]) -> dict[str, Any]:
    """The figures at the exported keep (or on the full set), and under `by_keep` at each keep."""
    first = next(iter(by_keep.values())).as_dict()
    if "" in by_keep:
        return first
    return {**first, "by_keep": {keep: method.as_dict() for keep, method in by_keep.items()}}


def _kept_rows(experiment: Experiment, summary: Summary, chosen: np.ndarray) -> datasets.Dataset:
    weights = summary.weight[chosen]
    return with_columns(
        experiment.splits.train.rows.select(chosen),
        {WEIGHT_COLUMN: ((weights / weights.mean()).astype(np.float32), datasets.Value("float32"))},
    )


def _score_columns(experiment: Experiment, summary: Summary, chosen: np.ndarray) -> dict[str, Any]:
    train, classes = experiment.splits.train, experiment.splits.classes
    keep = np.zeros(len(train.labels), dtype=bool)
    keep[chosen] = True
    return {
        "index": train.index,
        "given_label": class_names(train.labels, classes),
        "prediction": class_names(summary.prediction, classes),
        "loss": summary.loss.astype(np.float32),
        "uncertainty": summary.uncertainty.astype(np.float32),
        "score": summary.weight.astype(np.float32),
        "keep": keep,
    }


def _card(experiment: Experiment, kept: int) -> str:
    recipe = experiment.recipe
    rows = len(experiment.train)
    meta = "the training set itself" if experiment.meta is None else "a clean set"
    return dataset_card(
        title="Pruned training data",
        task=recipe.task,
        version=samacli.__version__,
        facts=[
            f"{kept:,} of {rows:,} examples are kept, in the order of the input",
            f"scores learnt by {recipe.meta.method} with {recipe.model.name}, mean over "
            f"{len(recipe.seeds)} run(s); the meta data were {meta}",
            "the accuracies in `metrics.json` were measured with every kept example counting 1",
        ],
        columns={WEIGHT_COLUMN: "how much the example counted for the meta data; mean 1"},
    )
