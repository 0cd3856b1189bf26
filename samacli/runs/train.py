"""`sama train`: ordinary fine-tuning on an exported dataset, with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samacli.data import Split
from samacli.data.sources import make_opener
from samacli.data.split import fingerprints
from samacli.errors import SamaError
from samacli.export.metrics import LABEL_COLUMN, WEIGHT_COLUMN, write_metrics
from samacli.export.model import save_model
from samacli.progress import Progress, Silent
from samacli.recipe import Data, Recipe, dump_recipe, load_recipe, resolve_paths
from samacli.runs.results import Results, environment
from samacli.store.output import METRICS_FILE, RECIPE_FILE, check_output, staged
from samacli.store.unfinished import Recovery
from samacli.training.experiment import Experiment
from samacli.training.runtime import DeviceName


@dataclass(frozen=True)
class TrainResult:
    """What `train` measured and wrote; `name` says whether weights were used."""

    output: Path
    name: str
    rows: int
    method: Results


def train(
    dataset: Path,
    output: Path,
    *,
    overrides: Sequence[str] = (),
    values: dict[str, Any] | None = None,
    use_weights: bool = True,
    overwrite: bool = False,
    resume: bool = False,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> TrainResult:
    """Fine-tune on `dataset` (a `dataset/` folder or the run that holds it), once.

    The run's `recipe.yaml` gives columns, model and training settings where it lies beside the
    dataset; `overrides` (KEY=VALUE) and `values` (dotted keys) replace them. resume: go on with an
    unfinished run.

    Raises:
        SamaError: anything wrong with the dataset, the recipe or `output`.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    progress = progress or Silent()
    check_output(output, overwrite=overwrite)
    if not dataset.is_dir():
        raise SamaError(f"there is no dataset directory '{dataset}'")
    folder = dataset / "dataset" if (dataset / "dataset").is_dir() else dataset
    recipe = _recipe(folder, overrides, values or {})
    if recipe.training.early_stopping:
        progress.note("an exported dataset has no validation split, so the last state is kept")
        calm = recipe.training.model_copy(update={"early_stopping": False})
        recipe = recipe.model_copy(update={"training": calm})
    with Recovery(
        "train", output, recipe, resume=resume, overwrite=overwrite, progress=progress
    ) as recovery:
        return _run(recipe, output, recovery, use_weights, overwrite, device, progress)


def _run(
    recipe: Recipe,
    output: Path,
    recovery: Recovery,
    use_weights: bool,
    overwrite: bool,
    device: DeviceName,
    progress: Progress,
) -> TrainResult:
    experiment = Experiment.prepare(recipe, device=device, progress=progress)
    weights = _weights(experiment.splits.train) if use_weights else None
    name = "all examples alike" if weights is None else f"weighted by {WEIGHT_COLUMN}"
    progress.note(f"labels from column '{recipe.data.columns.label}', {name}")
    experiment.begin(recovery, weights=weights)
    run = experiment.fit_plainly(experiment.train, recipe.seed, "training", weights=weights)
    method = Results()
    evaluation = experiment.evaluate(run.model)
    method.add(run, evaluation)
    if experiment.accelerator.is_main_process:
        with staged(output, overwrite=overwrite) as stage:
            (stage / RECIPE_FILE).write_text(dump_recipe(recipe), encoding="utf-8")
            save_model(run.model, experiment.processor, stage / "model")
            write_metrics(
                stage / METRICS_FILE,
                {
                    "workflow": "train",
                    "seeds": [recipe.seed],
                    "steps": experiment.steps,
                    "rows": experiment.sizes,
                    "weighted": weights is not None,
                    "methods": {"train": method.as_dict()},
                    "test": None if evaluation is None else evaluation.as_dict(),
                    "processes": experiment.accelerator.num_processes,
                    "fingerprints": fingerprints(experiment.splits),
                    "environment": environment(experiment.accelerator.device),
                },
            )
    recovery.finish()
    return TrainResult(output, name, len(experiment.train), method)


def _recipe(folder: Path, overrides: Sequence[str], values: dict[str, Any]) -> Recipe:
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
    data = Data(
        path=str(folder),
        test=test,
        columns=columns,
        abstain="keep",
        max_length=recipe.data.max_length,
        max_test_rows=recipe.data.max_test_rows,
        image_root=recipe.data.image_root,
        image_size=recipe.data.image_size,
        shortest_edge=recipe.data.shortest_edge,
        normalize=recipe.data.normalize,
        memory_limit_mb=recipe.data.memory_limit_mb,
        pixels=recipe.data.pixels,
        workers=recipe.data.workers,
        bad_images=recipe.data.bad_images,
        seed=recipe.data.seed,
    )
    return resolve_paths(recipe.model_copy(update={"data": data, "repeats": 1}))


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
