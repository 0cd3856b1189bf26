"""`sama prune`: keep the part of the data that training needs.

sources → trust in labels → SAMA scores (and others) → order → selection → retraining beside the
baselines → kept dataset, scores, curve, metrics
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Unpack, get_args

import numpy as np

from samacli.errors import SamaError, counted
from samacli.export.kept import write_keep_lists
from samacli.export.pruning_curve import write_curve
from samacli.export.results import Results
from samacli.progress import Progress
from samacli.pruning.curve import Budget, recommend
from samacli.pruning.duplicates import copies, duplicate_groups
from samacli.pruning.noise_rate import as_fields
from samacli.pruning.selection import (
    FEW_OF_CLASS,
    keep_counts,
    lost_classes,
    nearly_lost_classes,
)
from samacli.recipe import Recipe
from samacli.runs.prune.order import select
from samacli.runs.prune.planned import planned
from samacli.runs.prune.retrain import points, retrain
from samacli.runs.prune.scoring import score
from samacli.runs.prune.written import (
    card,
    copies_figures,
    kept_rows,
    method_figures,
    score_columns,
    write_examples,
)
from samacli.runs.run import How, Run, open_run
from samacli.training.experiment import Experiment


@dataclass(frozen=True)
class PruneResult:
    """What `prune` measured and wrote.

    methods: by name, at the same number of steps; but for `full` one `Results` for each keep, under
    its text ("0.7"). by_epochs: the same at the same number of epochs, with `prune.verify`.
    kept: rows of the exported dataset. recommended: a sentence a budget, with `prune.verify`.
    examples: what shows the highest- and lowest-ranked examples.
    """

    output: Path
    methods: dict[str, dict[str, Results]]
    by_epochs: dict[str, dict[str, Results]]
    noise: dict[str, float] | None
    kept: int
    suspects: int
    recommended: list[str]
    examples: str
    metrics: dict[str, Any]


def prune(recipe: Recipe, output: Path, **how: Unpack[How]) -> PruneResult:
    """Run a recipe and write its results to `output`, whole or not at all.

    Every keep of the recipe is measured by retraining from scratch, for the same number of steps,
    once a seed (with `prune.verify`: for the same number of epochs too); the first is exported. Of
    several processes the first writes.

    Raises:
        SamaError: anything wrong with the recipe, its data, or `output`.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    check_verify(recipe)
    with open_run("prune", recipe, output, **how) as run:
        experiment = run.experiment
        counts = keep_counts(run.recipe.prune.keep, len(experiment.train))
        run.expect(planned(experiment, counts))
        run.begin()
        return _prune(run, counts)


def check_verify(recipe: Recipe) -> None:
    """Refuse to verify without a test split."""
    if recipe.prune.verify and recipe.data.test is None:
        raise SamaError(
            "--verify measures on a test split, and data.test names none; give --test FILE, or "
            "data.test=train data.test_fraction=0.2 to hold some training rows out"
        )


def _prune(run: Run, counts: dict[str, int]) -> PruneResult:
    recipe, experiment, progress = run.recipe, run.experiment, run.experiment.progress
    scores = score(experiment, counts)
    if scores.diagnosis.warning is not None:
        progress.warn(scores.diagnosis.warning)
    progress.note(scores.diagnosis.sentence)
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
    for keep, rows in ours.items():
        lost = lost_classes(labels, rows)
        if lost:
            names = ", ".join(experiment.splits.classes[i] for i in lost)
            progress.warn(f"at keep {keep} no example is left of: {names}; keep more")
        few = nearly_lost_classes(labels, rows)
        if few:
            names = ", ".join(experiment.splits.classes[i] for i in few)
            progress.warn(
                f"at keep {keep} fewer than {FEW_OF_CLASS} examples are left of: {names}; keep more"
            )
    if experiment.test is None:
        progress.note(
            "there is no test split, so only the model on the kept rows is trained: nothing would "
            "tell the baselines apart; give --test FILE to compare"
        )

    done = retrain(experiment, selections, counts)
    for by_keep in done.methods.values():
        for keep, method in by_keep.items():
            ours_here = done.methods["sama"].get(keep) or done.methods["sama"][exported]
            method.compare({"sama": ours_here})
    curve = points(experiment, done, counts) if recipe.prune.verify else []
    budgets = get_args(Budget) if recipe.prune.verify else ()
    recommended = {
        budget: recommend(curve, "sama", budget, recipe.prune.margin) for budget in budgets
    }
    sentences = [one.sentence for one in recommended.values()]
    diagnosis = asdict(scores.diagnosis)
    del diagnosis["noise_rate"]
    metrics = run.metrics(
        {
            "rows": {**experiment.sizes, "kept": len(ours[exported])},
            "meta_data": scores.meta_data,
            "diagnosis": diagnosis,
            "noise_rate": as_fields(scores.diagnosis.noise_rate),
            "order": scores.order,
            "tried": scores.tried,
            "keep": counts,
            "duplicates": None if groups is None else copies_figures(recipe, groups, ours),
            "methods": {name: method_figures(by_keep) for name, by_keep in done.methods.items()},
            "curve": [point.as_dict() for point in curve],
            "recommended": {
                budget: {"keep": one.keep, "rows": one.rows, "why": one.sentence}
                for budget, one in recommended.items()
            },
            "noise_detection": scores.summary.noise,
            "seconds": run.recovery.seconds,
            "scoring": scores.costs,
            "samples_per_second": scores.scoring.samples_per_second,
            "peak_memory_bytes": max(scores.scoring.peak_memory_bytes),
        }
    )
    suspects = 0
    if run.writes:
        assert done.model is not None
        with run.stage() as stage:
            suspects = run.write_all(
                stage,
                scores.summary,
                rows=kept_rows(experiment, scores, ours[exported]),
                card=card(experiment, scores, len(ours[exported])),
                scores=score_columns(run, scores, ours, groups),
                model=done.model,
                curves={"scoring": scores.scoring.curves}
                | {
                    f"{name} {keep}".strip(): method.curves
                    for name, by_keep in done.methods.items()
                    for keep, method in by_keep.items()
                },
                metrics=metrics,
            )
            write_keep_lists(stage, experiment.splits.train.index, ours, run.names)
            write_examples(stage, experiment, scores.rankings["sama"][exported])
            if curve:
                write_curve(stage, curve, sentences)
    return PruneResult(
        run.output,
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
    if experiment.recipe.prune.duplicates is None:
        return None
    part = experiment.part("near-duplicates", _Groups)
    groups = (part.result or part.finish(_Groups(duplicate_groups(experiment)))).numbers
    found = copies(groups, np.arange(len(groups)))
    what = "is a near-duplicate" if found == 1 else "are near-duplicates"
    progress.note(
        f"{found:,} of {counted(len(groups), 'training row')} {what} of another one "
        f"(prune.duplicates={experiment.recipe.prune.duplicates:g}), and last to be kept"
    )
    return groups


@dataclass(frozen=True)
class _Groups:
    numbers: np.ndarray
