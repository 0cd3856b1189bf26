"""`sama train`: ordinary fine-tuning on an exported dataset, with its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from samacli.data import Split
from samacli.data.sources import make_opener
from samacli.errors import SamaError, counted
from samacli.export.dataset import CLEAN_FILE
from samacli.export.metrics import LABEL_COLUMN, WEIGHT_COLUMN
from samacli.export.results import Results
from samacli.progress import Silent
from samacli.recipe import Data, Recipe, load_recipe
from samacli.runs.run import How, open_run
from samacli.runs.saved_model import reading
from samacli.store.output import METRICS_FILE, RECIPE_FILE


@dataclass(frozen=True)
class TrainResult:
    """What `train` measured and wrote; `name` says whether weights were used, `rows` how many were
    trained on, clean ones among them."""

    output: Path
    name: str
    rows: int
    results: Results


def train(
    dataset: Path,
    output: Path,
    overrides: Sequence[str] = (),
    values: dict[str, Any] | None = None,
    use_weights: bool | None = None,
    use_clean: bool = True,
    **how: Unpack[How],
) -> TrainResult:
    """Fine-tune on `dataset` (a `dataset/` folder or the run that holds it), once.

    The run's `recipe.yaml` gives columns, model and training settings where it lies beside the
    dataset; `overrides` (KEY=VALUE) and `values` (dotted keys) replace them. The clean rows that
    stand beside it (`clean.parquet`) are trained on too, with the share that their weights have.

    use_weights: whether rows count their weights, or once each; None: as the run measured it, those
    of `sama prune` once. use_clean: else the clean rows are left out.

    Raises:
        SamaError: anything wrong with the dataset, the recipe or `output`.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    if not dataset.is_dir():
        raise SamaError(f"there is no dataset directory '{dataset}'")
    folder = dataset / "dataset" if (dataset / "dataset").is_dir() else dataset
    folder = folder.absolute()  # of "." the parent is told then
    clean = folder.parent / CLEAN_FILE
    clean_file = clean if use_clean and clean.is_file() else None
    recipe = _recipe(folder, clean_file, overrides, values or {})
    progress = how.get("progress") or Silent()
    if recipe.training.early_stopping:
        progress.note("an exported dataset has no validation split, so the last state is kept")
        calm = recipe.training.model_copy(update={"early_stopping": False})
        recipe = recipe.model_copy(update={"training": calm})
    with open_run("train", recipe, output, **how) as run:
        experiment = run.experiment
        weights = _weights(experiment.splits.train)
        kept = use_weights is None and weights is not None and _is_pruned(folder)
        weights = None if kept or use_weights is False else weights
        name = "all examples alike" if weights is None else f"weighted by {WEIGHT_COLUMN}"
        weighted = weights is not None
        if weights is None:
            weights = np.ones(len(experiment.train), dtype=np.float32)
        clean_weights = _clean_weights(experiment.splits.meta, weighted)
        share = experiment.clean_share(weights, clean_weights)
        why = ", as sama prune measured them (--weights counts their weights)" if kept else ""
        progress.note(f"labels from column '{recipe.data.columns.label}', {name}{why}")
        if clean_weights is not None:
            progress.note(
                f"beside them {counted(len(clean_weights), 'clean row')} of '{clean_file}', "
                f"{share:.0%} of "
                "the loss; --ignore-clean leaves them out"
            )
        run.expect([experiment.planned("training", "training")])
        run.begin(weights=weights, clean_weights=clean_weights)
        fit = experiment.fit_weighted(recipe.seed, "training", weights, clean_weights=clean_weights)
        evaluation = experiment.evaluate(fit.model)
        results = Results()
        results.add(fit, evaluation)
        metrics = run.metrics(
            {
                "weighted": weighted,
                "clean_share": share,
                "methods": {"train": results.as_dict()},
                "test": None if evaluation is None else evaluation.as_dict(),
            }
        )
        if run.writes:
            with run.stage() as stage:
                run.write(stage, fit.model, metrics)
    rows = len(experiment.train) + (0 if experiment.meta is None else len(experiment.meta))
    return TrainResult(output, name, rows, results)


def _recipe(
    folder: Path, clean: Path | None, overrides: Sequence[str], values: dict[str, Any]
) -> Recipe:
    """The recipe of the run that the dataset belongs to, turned to the exported files."""
    beside = folder.parent / RECIPE_FILE
    recipe = load_recipe(str(beside) if beside.is_file() else None, overrides, values)
    columns = recipe.data.columns
    test = values.get("data.test")
    if _has_column(folder, LABEL_COLUMN) and "data.columns.label" not in values:
        # A test file has no corrected labels: its own are under one of the names it had before.
        truth = columns.true_label or columns.label
        if test is not None:
            opener = make_opener(Data(path=str(folder), test=test, columns=columns))
            if truth not in opener(test, "data.test").rows.column_names:
                truth = columns.label
        columns = columns.model_copy(update={"label": LABEL_COLUMN, "true_label": truth})
    data = reading(
        recipe.data,
        path=str(folder),
        test=test,
        meta=None if clean is None else str(clean.resolve()),
        columns=columns,
        abstain="keep",
        # Whether it is a class was settled when the dataset was made.
        minus_one="none" if recipe.data.minus_one == "none" else "class",
        max_test_rows=recipe.data.max_test_rows,
    )
    return recipe.model_copy(update={"data": data, "repeats": 1})


def _clean_weights(clean: Split | None, weighted: bool) -> np.ndarray | None:
    """Of each clean row float32 (m,); None where there are none."""
    if clean is None:
        return None
    weights = _weights(clean) if weighted else None
    return np.ones(len(clean), dtype=np.float32) if weights is None else weights


def _is_pruned(folder: Path) -> bool:
    """Whether the dataset is what a pruning run kept."""
    try:
        metrics = json.loads((folder.parent / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(metrics, dict) and metrics.get("workflow") == "prune"


def _has_column(folder: Path, name: str) -> bool:
    import pyarrow.parquet as pq

    files = sorted(folder.glob("*.parquet"))
    return bool(files) and name in pq.read_schema(files[0]).names


def _weights(split: Split) -> np.ndarray | None:
    """The weight column (n,) float32, or None where there is none."""
    if WEIGHT_COLUMN not in split.rows.column_names:
        return None
    column = split.rows.select_columns([WEIGHT_COLUMN]).with_format("arrow")[:][WEIGHT_COLUMN]
    try:
        weights = column.to_numpy().astype(np.float32)
    except (TypeError, ValueError) as error:
        raise SamaError(
            f"column '{WEIGHT_COLUMN}' of {split.origin} holds {column.type}, not numbers; "
            "train with --ignore-weights"
        ) from error
    wrong = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if wrong.size:
        raise SamaError(
            f"column '{WEIGHT_COLUMN}' of {split.origin} has {weights[wrong[0]]} in row {wrong[0]} "
            "(counted from 0); weights are numbers from 0 up"
        )
    return weights
