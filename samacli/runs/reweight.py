"""`sama reweight`: learn a weight for each training example from a small clean set.

sources → training beside the baselines → scores → reweighted dataset, suspects, model, metrics
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import datasets
import numpy as np

import samacli
from samacli.bilevel.scored import Scored, Summary, summarize
from samacli.errors import SamaError
from samacli.export.dataset import (
    dataset_card,
    label_values,
    with_columns,
)
from samacli.export.metrics import LABEL_COLUMN, WEIGHT_COLUMN
from samacli.export.results import Results
from samacli.methods import MethodRun, check_methods
from samacli.recipe import Recipe
from samacli.registry import METHODS, load
from samacli.runs.run import How, open_run
from samacli.training.experiment import Experiment
from samacli.training.tracking import track_evaluation


@dataclass(frozen=True)
class ReweightResult:
    """What `reweight` measured and wrote.

    methods: by name (`noisy`, `clean`, `mixed`, `sama` …), one accuracy a seed.
    noise: average precision and AUROC of the probability that a label is wrong against the truth,
        where it is known.
    suspects: examples in `suspects.csv`.
    """

    output: Path
    methods: dict[str, Results]
    noise: dict[str, float] | None
    suspects: int
    metrics: dict[str, Any]


def reweight(recipe: Recipe, output: Path, **how: Unpack[How]) -> ReweightResult:
    """Run a recipe and write its results to `output`, whole or not at all.

    Of several processes the first writes, and alone knows the number of suspects.

    Raises:
        SamaError: anything wrong with the recipe, its data, or `output`.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    check_clean_set(recipe)
    with open_run("reweight", recipe, output, **how) as run:
        experiment = run.experiment
        methods: dict[str, Results] = {}
        scored: list[Scored] = []
        exported = None
        names = methods_of(experiment)
        check_methods(experiment, names)
        run.begin()
        for seed in recipe.seeds:
            for name in names:
                keep_model = name == "sama" and seed == recipe.seeds[0]
                part = experiment.part(f"{name}, seed {seed}", MethodRun, keep_model=keep_model)
                method = load(METHODS[name].where)
                done = part.result or part.finish(method(experiment, name, seed))
                methods.setdefault(name, Results()).add(done, done.evaluation, done.noise)
                track_evaluation(experiment.accelerator, f"{name}, seed {seed}", done.evaluation)
                if name == "sama":
                    assert done.scored is not None
                    scored.append(done.scored)
                    # The first seed's: to choose among them would take data that is not there.
                    exported = exported or done.model
                del done
        splits = experiment.splits
        summary = summarize(scored, splits.train)
        metrics = run.metrics(
            {
                "class_rows": splits.train.class_rows(splits.classes),
                "methods": {name: method.as_dict() for name, method in methods.items()},
                "noise_detection": summary.noise,
                "seconds": run.recovery.seconds,
                "samples_per_second": methods["sama"].samples_per_second,
                "peak_memory_bytes": max(methods["sama"].peak_memory_bytes),
            }
        )
        columns = run.score_columns(summary)
        if summary.mislabelled is not None:
            columns["mislabelled"] = summary.mislabelled.astype(np.float32)
        suspects = 0
        if run.writes:
            assert exported is not None
            with run.stage() as stage:
                suspects = run.write_all(
                    stage,
                    summary,
                    rows=_reweighted(experiment, summary),
                    card=_card(experiment, summary),
                    scores=columns,
                    model=exported,
                    curves={name: method.curves for name, method in methods.items()},
                    metrics=metrics,
                )
    return ReweightResult(output, methods, summary.noise, suspects, metrics)


def check_clean_set(recipe: Recipe) -> None:
    """Refuse a recipe without a clean set."""
    if recipe.data.meta is None:
        raise SamaError(
            "reweighting learns from a small clean set, and none is given; give --meta FILE, or "
            "data.meta=train data.meta_per_class=10 where the labels of those rows can be trusted"
        )


def methods_of(experiment: Experiment) -> list[str]:
    """What is trained each seed, in order: the baselines, where they can be measured, and sama."""
    baselines: list[str] = list(experiment.recipe.reweight.baselines)
    if baselines and experiment.test is None:
        experiment.progress.note(
            "there is no test split, so the baselines are not run: nothing would tell them apart; "
            "give --test FILE to compare"
        )
        return ["sama"]
    return [*baselines, "sama"]


def _reweighted(experiment: Experiment, summary: Summary) -> datasets.Dataset:
    train, column = experiment.splits.train, experiment.recipe.data.columns.label
    columns: dict[str, Any] = {
        WEIGHT_COLUMN: (summary.weight.astype(np.float32), datasets.Value("float32"))
    }
    if summary.corrected is not None:
        columns[LABEL_COLUMN] = label_values(
            summary.corrected,
            experiment.splits.classes,
            train.rows.features[column],
            (train.labels, train.rows[column]),
        )
    return with_columns(train.rows, columns)


def _card(experiment: Experiment, summary: Summary) -> str:
    recipe, train = experiment.recipe, experiment.splits.train
    columns = {WEIGHT_COLUMN: "how much the example should count; mean 1, 0 where it has no label"}
    if summary.corrected is not None:
        columns[LABEL_COLUMN] = "the label that training settled on, right or changed"
    return dataset_card(
        title="Reweighted training data",
        task=recipe.task,
        version=samacli.__version__,
        facts=[
            f"{len(train.labels):,} examples of {len(experiment.splits.classes)} classes, "
            "in the order of the input",
            f"weights learnt by {recipe.meta.method} with {recipe.model.name}, "
            f"mean over {len(recipe.seeds)} run(s)",
        ],
        columns=columns,
    )
