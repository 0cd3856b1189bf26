"""`sama reweight`: learn a weight for each training example from a small clean set.

sources → training beside the baselines → scores → training afresh on what is exported →
reweighted dataset, suspects, model, metrics
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import datasets

import samacli
from samacli.bilevel.scored import Scored, Summary
from samacli.errors import SamaError, counted
from samacli.export.dataset import (
    CLEAN_FILE,
    clean_like,
    clean_rows,
    dataset_card,
    label_values,
    with_columns,
    write_rows,
)
from samacli.export.metrics import CLEAN_COLUMN, LABEL_COLUMN, WEIGHT_COLUMN, known_numbers
from samacli.export.results import Results
from samacli.methods import MethodRun, check_methods, planned
from samacli.methods.calibrated import cross_fitted, planned_folds
from samacli.methods.export import ExportedRows, exported_rows, train_on
from samacli.methods.learnt import not_learnt
from samacli.methods.sama import summary_of
from samacli.progress import Planned
from samacli.pruning.noise_rate import as_fields, known_noise_rate
from samacli.recipe import Recipe
from samacli.registry import METHODS, OURS, load
from samacli.runs.run import How, open_run
from samacli.training.experiment import Experiment
from samacli.training.reliability import as_fields as reliable_fields
from samacli.training.reliability import reliability
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
        run.expect(planned_trainings(experiment, names))
        run.begin()

        def measure(name: str, seed: int, train: Callable[[], MethodRun]) -> MethodRun:
            keep_model = name == "sama" and seed == recipe.seeds[0]
            part = experiment.part(f"{name}, seed {seed}", MethodRun, keep_model=keep_model)
            done = part.result or part.finish(train())
            methods.setdefault(name, Results()).add(done, done.evaluation, done.noise)
            track_evaluation(experiment.accelerator, f"{name}, seed {seed}", done.evaluation)
            return done

        for seed in recipe.seeds:
            for name in names:
                if name == "export":  # of all seeds together, below
                    continue
                method = load(METHODS[name].where)
                done = measure(name, seed, partial(method, experiment, name, seed))
                if name == "sama":
                    assert done.scored is not None
                    scored.append(done.scored)
                    # The first seed's: to choose among them would take data that is not there.
                    exported = exported or done.model
                del done
        splits = experiment.splits
        summary = summary_of(experiment, scored)
        rows = exported_rows(experiment, summary)
        for seed in recipe.seeds if "export" in names else []:
            measure("export", seed, partial(train_on, experiment, rows, "export", seed))
        for result in methods.values():
            result.compare({name: methods[name] for name in OURS if name in methods})
        folds = recipe.reweight.calibration_folds
        told = cross_fitted(experiment, recipe.seed, folds)
        calibration: dict[str, Any] = {"fitted": False}
        if isinstance(told, str):
            calibration["why"] = told
        else:
            reliable = reliability(told.checked, told.wrong, told.weight, fitted=True)
            assert reliable is not None  # there are rows enough
            calibration = {"fitted": True, "folds": folds, **reliable_fields(reliable)}
            summary = summary.with_probabilities(told.probability, splits.clean_twins >= 0)
        noise_rate = known_noise_rate(splits)
        if noise_rate is not None:
            experiment.progress.note(noise_rate.sentence)
        if summary.doubt is not None:
            experiment.progress.warn(f"which labels are wrong is not known: {summary.doubt}")
        warnings = not_learnt(experiment, methods, summary)
        for warning in warnings:
            experiment.progress.warn(warning)
        metrics = run.metrics(
            {
                "class_rows": splits.train.class_rows(splits.classes),
                "methods": {name: method.as_dict() for name, method in methods.items()},
                "artifacts": {
                    "model/": {"method": "sama", "accuracy": methods["sama"].accuracy},
                    "dataset/": {
                        "method": "export",
                        "accuracy": methods["export"].accuracy if "export" in methods else None,
                        "clean_rows": 0 if rows.clean_weights is None else len(rows.clean_weights),
                        "clean_share": experiment.clean_share(rows.weights, rows.clean_weights),
                    },
                },
                "not_learnt": warnings,
                "noise_detection": summary.noise,
                "no_probability": summary.doubt,
                "noise_rate": as_fields(noise_rate),
                "calibration": calibration,
                "seconds": run.recovery.seconds,
                "samples_per_second": methods["sama"].samples_per_second,
                "peak_memory_bytes": max(methods["sama"].peak_memory_bytes),
            }
        )
        columns = run.score_columns(summary)
        if summary.mislabelled is not None:
            columns["mislabelled"] = known_numbers(summary.mislabelled)
        suspects = 0
        if run.writes:
            assert exported is not None
            with run.stage() as stage:
                dataset = _reweighted(experiment, summary, rows)
                if (rater := scored[0].rater) is not None:
                    # The first seed's, as the model is that it looks at.
                    model = recipe.model.model_dump(mode="json")
                    rater.save(stage / "rater", class_names=splits.classes, model=model)
                if rows.clean_weights is not None:
                    write_rows(_clean(experiment, dataset, rows), stage / CLEAN_FILE)
                suspects = run.write_all(
                    stage,
                    summary,
                    rows=dataset,
                    card=_card(experiment, summary, rows),
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
    """What is trained each seed, in order: the baselines, where they can be measured, and sama.

    With baselines also, at the end, what is exported.
    """
    config = experiment.recipe.reweight
    baselines: list[str] = list(config.baselines)
    if baselines and experiment.test is None:
        experiment.progress.note(
            "there is no test split, so the baselines are not run: nothing would tell them apart; "
            "give --test FILE to compare"
        )
        return ["sama"]
    return [*baselines, "sama", *(["export"] if baselines and config.measure_export else [])]


def planned_trainings(experiment: Experiment, names: Sequence[str]) -> list[Planned]:
    """All trainings of a run beforehand, in their order."""
    seeds = experiment.recipe.seeds
    order = [(name, seed) for seed in seeds for name in names if name != "export"]
    order += [(name, seed) for seed in seeds for name in names if name == "export"]
    found = [one for name, seed in order for one in planned(experiment, name, seed)]
    config, seed = experiment.recipe.reweight, experiment.recipe.seed
    return [*found, *planned_folds(experiment, seed, config.calibration_folds)]


def _reweighted(experiment: Experiment, summary: Summary, rows: ExportedRows) -> datasets.Dataset:
    splits, column = experiment.splits, experiment.recipe.data.columns.label
    train = splits.train
    columns: dict[str, Any] = {WEIGHT_COLUMN: (rows.weights, datasets.Value("float32"))}
    known = splits.noisy_rows is not None
    if summary.corrected is not None or known:
        columns[LABEL_COLUMN] = label_values(
            rows.labels,
            splits.classes,
            train.rows.features[column],
            (train.labels, train.rows[column]),
        )
    if known:
        columns[CLEAN_COLUMN] = (clean_rows(splits), datasets.Value("int32"))
    return with_columns(train.rows, columns)


def _clean(
    experiment: Experiment, dataset: datasets.Dataset, rows: ExportedRows
) -> datasets.Dataset:
    assert rows.clean_weights is not None
    columns = experiment.splits.columns
    labels = dict.fromkeys([columns.label, columns.true_label or columns.label, LABEL_COLUMN])
    return clean_like(dataset, experiment.splits, rows.clean_weights, list(labels))


def _card(experiment: Experiment, summary: Summary, rows: ExportedRows) -> str:
    recipe, splits = experiment.recipe, experiment.splits
    train = splits.train
    columns = {WEIGHT_COLUMN: "how much the example should count; mean 1, 0 where it has no label"}
    if summary.corrected is not None:
        columns[LABEL_COLUMN] = "the label that training settled on, right or changed"
    facts = [
        f"{len(train.labels):,} examples of {len(splits.classes)} classes, "
        "in the order of the input",
        f"weights learnt by {recipe.meta.method} with {recipe.model.name}, "
        f"mean over {counted(len(recipe.seeds), 'run')}",
    ]
    if rows.clean_weights is not None:
        share = experiment.clean_share(rows.weights, rows.clean_weights)
        facts.append(
            f"beside it {counted(len(rows.clean_weights), 'clean row')} (`{CLEAN_FILE}`), with "
            "the same "
            f"columns; their weights make up {share:.0%} of the sum of all, which is their "
            "share of the loss"
        )
    if splits.noisy_rows is not None:
        known = len(train) - len(splits.noisy_rows)
        weight = 1 if rows.clean_weights is None else f"0, since they count in `{CLEAN_FILE}`"
        facts.append(
            f"{counted(known, 'example is a clean row', 'examples are clean rows')} too: "
            f"`{LABEL_COLUMN}` is the clean label there, the weight {weight}"
        )
        columns.setdefault(LABEL_COLUMN, "the given label, or the clean one where it is known")
        columns[CLEAN_COLUMN] = "which clean row the example is, counted from 0; null for none"
    return dataset_card(
        title="Reweighted training data",
        task=recipe.task,
        version=samacli.__version__,
        facts=facts,
        columns=columns,
        clean=rows.clean_weights is not None,
    )
