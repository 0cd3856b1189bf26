"""`sama prune`: keep the part of the data that training needs.

sources → trust in labels → SAMA scores (and others) → order → selection → retraining beside the
baselines → kept dataset, scores, curve, metrics
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

import samacli
from samacli.data.fingerprint import fingerprints
from samacli.data.table import Table
from samacli.errors import SamaError
from samacli.export.curve import write_curve
from samacli.export.curves import Curve
from samacli.export.dataset import WEIGHT_COLUMN, dataset_card, with_columns
from samacli.export.directory import check_output, staged
from samacli.export.kept_rows import write_kept_rows
from samacli.export.ranked_examples import write_pictures, write_texts
from samacli.export.scores import class_names
from samacli.progress import Progress, Silent
from samacli.pruning.curve import Point, Recommendation, recommend
from samacli.pruning.diagnosis import Diagnosis
from samacli.pruning.selection import keep_count, lost_classes
from samacli.recipe import Recipe, resolve_paths
from samacli.training.runtime import DeviceName
from samacli.workflows.experiment import Experiment
from samacli.workflows.outputs import write_outputs
from samacli.workflows.prune.duplicates import copies, duplicate_groups
from samacli.workflows.prune.order import select
from samacli.workflows.prune.retrain import Retrained, points, retrain
from samacli.workflows.prune.scoring import Scores, score
from samacli.workflows.recovery import Recovery
from samacli.workflows.results import Method, environment


@dataclass(frozen=True)
class PruneResult:
    """What `prune` measured and wrote.

    methods: by name, at the same number of steps; but for `full` one `Method` for each keep, under
    its text ("0.7"). by_epochs: the same at the same number of epochs, with `prune.verify`.
    kept: rows of the exported dataset. recommended: a sentence a budget, with `prune.verify`.
    examples: what shows the highest- and lowest-ranked examples.
    """

    output: Path
    methods: dict[str, dict[str, Method]]
    by_epochs: dict[str, dict[str, Method]]
    noise: dict[str, float] | None
    kept: int
    suspects: int
    recommended: list[str]
    examples: str
    metrics: dict[str, Any]


def prune(
    recipe: Recipe,
    output: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    tables: Mapping[str, Table] | None = None,
) -> PruneResult:
    """Run a recipe and write its results to `output`, whole or not at all.

    Until it is finished, what was done is kept beside `output` (`Recovery`).

    Every keep of the recipe is measured by retraining from scratch, for the same number of steps,
    once a seed (with `prune.verify`: for the same number of epochs too); the first is exported. Of
    several processes the first writes.

    resume: go on with an unfinished run. overwrite: replace a finished or an unfinished one.
    tables: rows that a program has already, by the name that the recipe calls them.

    Raises:
        SamaError: anything wrong with the recipe, its data, or `output`.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    progress = progress or Silent()
    check_output(output, overwrite=overwrite)
    recipe = resolve_paths(recipe)
    if recipe.prune.verify and recipe.data.test is None:
        raise SamaError(
            "--verify measures on a test split, and data.test names none; give --test FILE, or "
            "data.test=train data.test_fraction=0.2 to hold some training rows out"
        )
    with Recovery(
        "prune", output, recipe, resume=resume, overwrite=overwrite, progress=progress
    ) as recovery:
        return _run(recipe, output, recovery, overwrite, device, progress, tables)


def _run(
    recipe: Recipe,
    output: Path,
    recovery: Recovery,
    overwrite: bool,
    device: DeviceName,
    progress: Progress,
    tables: Mapping[str, Table] | None,
) -> PruneResult:
    experiment = Experiment.prepare(recipe, device=device, progress=progress, tables=tables)
    recovery.begin(experiment)
    rows = len(experiment.train)
    counts = {f"{keep:g}": keep_count(keep, rows) for keep in recipe.prune.keep}

    scores = score(experiment, counts)
    _tell(progress, scores.diagnosis)
    labels = experiment.splits.train.labels
    groups = _duplicates(experiment, progress)
    selections = {
        name: {
            keep: select(experiment, by_keep[keep], labels, count, name, groups=groups)
            for keep, count in counts.items()
        }
        for name, by_keep in scores.rankings.items()
    }
    ours = selections["sama"]
    exported = next(iter(counts))
    lost = lost_classes(labels, ours[exported])
    if lost:
        names = ", ".join(experiment.splits.classes[i] for i in lost)
        progress.warn(f"at keep {exported} no example is left of: {names}; keep more")
    if experiment.test is None:
        progress.note(
            "there is no test split, so only the model on the kept rows is trained: nothing would "
            "tell the baselines apart; give --test FILE to compare"
        )

    done = retrain(experiment, selections, counts)
    curve: list[Point] = []
    recommended: dict[str, Recommendation] = {}
    if recipe.prune.verify:
        curve = points(experiment, done, counts)
        recommended = {
            "steps": recommend(curve, "sama", "steps"),
            "epochs": recommend(curve, "sama", "epochs"),
        }
    sentences = [one.sentence for one in recommended.values()]
    metrics = {
        "workflow": "prune",
        "seeds": recipe.seeds,
        "steps": experiment.steps,
        "rows": {**experiment.sizes, "kept": len(ours[exported])},
        "meta_data": scores.meta_data,
        "diagnosis": scores.diagnosis.as_dict(),
        "order": scores.order,
        "tried": scores.tried,
        "keep": counts,
        "duplicates": None if groups is None else _copies(recipe, groups, ours),
        "methods": {name: _as_dict(by_keep) for name, by_keep in done.methods.items()},
        "curve": [_point(point) for point in curve],
        "recommended": {
            budget: {"keep": one.keep, "rows": one.rows, "why": one.sentence}
            for budget, one in recommended.items()
        },
        "noise_detection": scores.summary.noise,
        "seconds": recovery.seconds,
        "scoring": scores.costs,
        "samples_per_second": scores.samples_per_second,
        "peak_memory_bytes": scores.peak_memory_bytes,
        "processes": experiment.accelerator.num_processes,
        "fingerprints": fingerprints(experiment.splits),
        "environment": environment(experiment.accelerator.device),
    }
    suspects = 0
    if experiment.accelerator.is_main_process:
        assert done.model is not None
        with staged(output, overwrite=overwrite) as stage:
            suspects = write_outputs(
                stage,
                experiment,
                recipe,
                scores.summary,
                rows=_kept_rows(experiment, scores, ours[exported]),
                card=_card(experiment, scores, len(ours[exported])),
                scores=_score_columns(experiment, scores, ours, groups),
                model=done.model,
                curves=_curves(scores, done),
                metrics=metrics,
            )
            write_kept_rows(stage, experiment.splits.train.index, ours)
            _write_examples(stage, experiment, scores.rankings["sama"][exported])
            if curve:
                write_curve(stage, curve, sentences)
    experiment.accelerator.end_training()
    recovery.finish()
    return PruneResult(
        output,
        done.methods,
        done.by_epochs,
        scores.summary.noise,
        len(ours[exported]),
        suspects,
        sentences,
        "pictures/" if recipe.task == "image-classification" else "examples.md",
        metrics,
    )


def _duplicates(experiment: Experiment, progress: Progress) -> np.ndarray | None:
    """Group numbers (n,) of near-duplicates, where they are asked for."""

    def find() -> _Groups:
        return _Groups(duplicate_groups(experiment))

    if experiment.recipe.prune.duplicates is None:
        return None
    groups = experiment.once("near-duplicates", _Groups, find).numbers
    found = copies(groups, np.arange(len(groups)))
    progress.note(
        f"{found:,} of {len(groups):,} training rows are near-duplicates of another one "
        f"(prune.duplicates={experiment.recipe.prune.duplicates:g}); they go first"
    )
    return groups


@dataclass(frozen=True)
class _Groups:
    numbers: np.ndarray


def _copies(recipe: Recipe, groups: np.ndarray, kept: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How many rows are copies of another one, and how many of the kept."""
    return {
        "cosine": recipe.prune.duplicates,
        "copies": copies(groups, np.arange(len(groups))),
        "kept": {keep: copies(groups, rows) for keep, rows in kept.items()},
    }


def _curves(scores: Scores, done: Retrained) -> dict[str, Sequence[Curve]]:
    """Learning curves of every training, by the name that the report gives it."""
    retrained: dict[str, Sequence[Curve]] = {
        f"{name} {keep}".strip(): method.curves
        for name, by_keep in done.methods.items()
        for keep, method in by_keep.items()
    }
    return {"scoring": scores.scoring.curves, **retrained}


def _tell(progress: Progress, diagnosis: Diagnosis) -> None:
    if diagnosis.warning is not None:
        progress.warn(diagnosis.warning)
    progress.note(diagnosis.sentence)


def _as_dict(by_keep: dict[str, Method]) -> dict[str, Any]:
    """The figures at the exported keep (or on the full set), and under `by_keep` at each keep."""
    first = next(iter(by_keep.values())).as_dict()
    if "" in by_keep:
        return first
    return {**first, "by_keep": {keep: method.as_dict() for keep, method in by_keep.items()}}


def _point(point: Point) -> dict[str, Any]:
    return {
        "selection": point.selection,
        "keep": point.keep,
        "rows": point.rows,
        "budget": point.budget,
        "steps": point.steps,
        "mean": point.mean,
        "spread": point.spread,
        "accuracy": list(point.accuracy),
    }


def _kept_rows(experiment: Experiment, scores: Scores, chosen: np.ndarray) -> datasets.Dataset:
    weights = scores.summary.weight[chosen]
    return with_columns(
        experiment.splits.train.rows.select(chosen),
        {WEIGHT_COLUMN: ((weights / weights.mean()).astype(np.float32), datasets.Value("float32"))},
    )


def _score_columns(
    experiment: Experiment,
    scores: Scores,
    kept: Mapping[str, np.ndarray],
    groups: np.ndarray | None,
) -> dict[str, Any]:
    """Columns of `scores.parquet`; `score` ranked the first keep, whose rows `keep` marks."""
    train, classes, summary = experiment.splits.train, experiment.splits.classes, scores.summary
    exported, *others = kept

    def marked(keep: str) -> np.ndarray:
        mark = np.zeros(len(train.labels), dtype=bool)
        mark[kept[keep]] = True
        return mark

    return {
        "index": train.index,
        "given_label": class_names(train.labels, classes),
        "prediction": class_names(summary.prediction, classes),
        "loss": summary.loss.astype(np.float32),
        "uncertainty": summary.uncertainty.astype(np.float32),
        "weight": summary.weight.astype(np.float32),
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


def _write_examples(stage: Path, experiment: Experiment, ranking: np.ndarray) -> None:
    train, classes = experiment.splits.train, experiment.splits.classes
    ranked = (ranking, train.labels, train.rows, train.index, classes)
    columns = experiment.example_columns
    if "image_column" in columns:
        write_pictures(stage / "pictures", *ranked, columns["image_column"])
    else:
        write_texts(stage / "examples.md", *ranked, columns["text_columns"])


def _card(experiment: Experiment, scores: Scores, kept: int) -> str:
    recipe = experiment.recipe
    rows = len(experiment.train)
    return dataset_card(
        title="Pruned training data",
        task=recipe.task,
        version=samacli.__version__,
        facts=[
            f"{kept:,} of {rows:,} examples are kept, in the order of the input",
            f"scores learnt by {recipe.meta.method} with {recipe.model.name}, mean over "
            f"{len(recipe.score_seeds)} run(s); the meta data were {_called(scores.meta_data)}",
            "the accuracies in `metrics.json` were measured with every kept example counting 1",
        ],
        columns={WEIGHT_COLUMN: "how much the example counted for the meta data; mean 1"},
    )


def _called(meta_data: str) -> str:
    return {"clean set": "a clean set"}.get(meta_data, f"the {meta_data} itself")
