"""`sama reweight`: learn a weight for each training example from a small clean set.

sources → training beside the baselines → scores → reweighted dataset, suspects, model, metrics
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

import samacli
from samacli.bilevel.run import Scored
from samacli.bilevel.summary import Summary, summarize
from samacli.data.split import fingerprints
from samacli.data.table import Table
from samacli.errors import SamaError
from samacli.export.dataset import (
    dataset_card,
    label_values,
    with_columns,
)
from samacli.export.metrics import LABEL_COLUMN, WEIGHT_COLUMN, class_names
from samacli.methods import MethodRun, check_methods, run_method
from samacli.progress import Progress, Silent
from samacli.recipe import Recipe, resolve_paths
from samacli.runs.outputs import write_outputs
from samacli.runs.results import Results, environment
from samacli.store.output import check_output, staged
from samacli.store.unfinished import Recovery
from samacli.training.experiment import Experiment
from samacli.training.runtime import DeviceName
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


def reweight(
    recipe: Recipe,
    output: Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    device: DeviceName = "auto",
    progress: Progress | None = None,
    tables: Mapping[str, Table] | None = None,
) -> ReweightResult:
    """Run a recipe and write its results to `output`, whole or not at all.

    Until it is finished, what was done is kept beside `output` (`Recovery`).

    Of several processes the first writes, and alone knows the number of suspects.

    resume: go on with an unfinished run. overwrite: replace a finished or an unfinished one.
    tables: rows that a program has already, by the name that the recipe calls them.

    Raises:
        SamaError: anything wrong with the recipe, its data, or `output`.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    progress = progress or Silent()
    check_output(output, overwrite=overwrite)
    if recipe.data.meta is None:
        raise SamaError(
            "reweighting learns from a small clean set, and none is given; give --meta FILE, or "
            "data.meta=train data.meta_per_class=10 where the labels of those rows can be trusted"
        )
    recipe = resolve_paths(recipe)
    with Recovery(
        "reweight", output, recipe, resume=resume, overwrite=overwrite, progress=progress
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
) -> ReweightResult:
    experiment = Experiment.prepare(recipe, device=device, progress=progress, tables=tables)
    baselines: list[str] = list(recipe.reweight.baselines)
    if baselines and experiment.test is None:
        progress.note(
            "there is no test split, so the baselines are not run: nothing would tell them apart; "
            "give --test FILE to compare"
        )
        baselines = []
    methods: dict[str, Results] = {}
    scored: list[Scored] = []
    exported = None
    check_methods(experiment, [*baselines, "sama"])
    experiment.begin(recovery)
    for seed in recipe.seeds:
        for name in [*baselines, "sama"]:
            run = experiment.once(
                f"{name}, seed {seed}",
                MethodRun,
                functools.partial(run_method, experiment, name, seed),
                keep_model=name == "sama" and seed == recipe.seeds[0],
            )
            methods.setdefault(name, Results()).add(run, run.evaluation, run.noise)
            track_evaluation(experiment.accelerator, f"{name}, seed {seed}", run.evaluation)
            if name == "sama":
                assert run.scored is not None
                scored.append(run.scored)
                # The first seed's model: to choose among them would take data that is not there.
                exported = exported or run.model
            del run
    summary = summarize(scored, experiment.splits.train)
    metrics = {
        "workflow": "reweight",
        "seeds": recipe.seeds,
        "steps": experiment.steps,
        "rows": experiment.sizes,
        "class_rows": experiment.splits.train.class_rows(experiment.splits.classes),
        "methods": {name: method.as_dict() for name, method in methods.items()},
        "noise_detection": summary.noise,
        "seconds": recovery.seconds,
        "samples_per_second": methods["sama"].samples_per_second,
        "peak_memory_bytes": max(methods["sama"].peak_memory_bytes),
        "processes": experiment.accelerator.num_processes,
        "fingerprints": fingerprints(experiment.splits),
        "environment": environment(experiment.accelerator.device),
    }
    suspects = 0
    if experiment.accelerator.is_main_process:
        assert exported is not None
        with staged(output, overwrite=overwrite) as stage:
            suspects = write_outputs(
                stage,
                experiment,
                recipe,
                summary,
                rows=_reweighted(experiment, summary),
                card=_card(experiment, summary),
                scores=_score_columns(experiment, summary),
                model=exported,
                curves={name: method.curves for name, method in methods.items()},
                metrics=metrics,
            )
    experiment.accelerator.end_training()
    recovery.finish()
    return ReweightResult(output, methods, summary.noise, suspects, metrics)


def _reweighted(experiment: Experiment, summary: Summary) -> datasets.Dataset:
    recipe = experiment.recipe
    columns: dict[str, Any] = {
        WEIGHT_COLUMN: (summary.weight.astype(np.float32), datasets.Value("float32"))
    }
    if summary.corrected is not None:
        columns[LABEL_COLUMN] = label_values(
            summary.corrected,
            experiment.splits.classes,
            experiment.splits.train.rows.features[recipe.data.columns.label],
        )
    return with_columns(experiment.splits.train.rows, columns)


def _score_columns(experiment: Experiment, summary: Summary) -> dict[str, Any]:
    train, classes = experiment.splits.train, experiment.splits.classes
    columns = {
        "index": train.index,
        "given_label": class_names(train.labels, classes),
        "prediction": class_names(summary.prediction, classes),
        "loss": summary.loss.astype(np.float32),
        "uncertainty": summary.uncertainty.astype(np.float32),
        "weight": summary.weight.astype(np.float32),
    }
    if summary.mislabelled is not None:
        columns["mislabelled"] = summary.mislabelled.astype(np.float32)
    return columns


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
