"""For notebooks and programs: `samacli.reweight` and `samacli.prune` on data in memory.

They run the same workflows as the command line; only where rows come from and what is handed back
differ.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar, Unpack

import datasets
import numpy as np
import pandas
import pyarrow.parquet as pq

from samacli.data.files import read_files
from samacli.data.table import Table, cells
from samacli.errors import Interrupted, SamaError
from samacli.export.dataset import CLEAN_FILE, with_columns
from samacli.export.metrics import CLEAN_COLUMN, LABEL_COLUMN, WEIGHT_COLUMN
from samacli.models import load_model, load_processor
from samacli.progress import Progress, Silent
from samacli.recipe import Model, Recipe, load_recipe
from samacli.recipe.paths import local_path
from samacli.runs.prune import prune as run_prune
from samacli.runs.reweight import reweight as run_reweight
from samacli.runs.run import How
from samacli.runs.saved_model import find_model
from samacli.training.runtime import DeviceName

Rows = TypeVar("Rows", datasets.Dataset, pandas.DataFrame, list[dict[str, Any]])
AnyRows: TypeAlias = datasets.Dataset | pandas.DataFrame | Sequence[Mapping[str, Any]] | str | Path


@dataclass(frozen=True)
class Result(Generic[Rows]):
    """What a run found.

    dataset: the training rows, of the kind that was given (a `Dataset` where a file or a split was
        named), in their order, with `sama_weight` and, with correction, `sama_label`; for `prune`
        the kept rows only.
    clean: the clean rows that had a share of the loss, with the columns of `dataset` and of the
        same kind; their `sama_weight` says how many rows of mean weight each counts for. None
        where they had none. `samacli.rows_to_train_on` puts both together.
    scores: `scores.parquet`, one row an input row that was trained on; `index` is its position.
    suspects: `suspects.csv`, the examples that look mislabelled, worst first.
    model: the trained model, on the CPU; processor: its tokenizer or image processor.
    metrics: `metrics.json`.
    output: the directory that holds all of it, or None where none was asked for.
    """

    dataset: Rows
    clean: Rows | None
    scores: pandas.DataFrame
    suspects: pandas.DataFrame
    model: Any
    processor: Any
    metrics: dict[str, Any]
    output: Path | None


def reweight(
    dataset: Rows | str | Path,
    meta: AnyRows,
    *,
    test: AnyRows | None = None,
    validation: AnyRows | None = None,
    model: str | Path | None = None,
    text: str | None = None,
    image: str | None = None,
    label: str | None = None,
    true_label: str | None = None,
    correction: bool | None = None,
    recipe: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> Result[Rows]:
    """Learn how much each example of `dataset` should count, from the small clean set `meta`.

    >>> import samacli
    >>> result = samacli.reweight(train, clean, model="bert-base-uncased")  # doctest: +SKIP
    >>> result.dataset["sama_weight"]  # doctest: +SKIP

    Args:
        dataset: the training rows: a `datasets.Dataset`, a pandas `DataFrame` or a list of dicts;
            or a file's or (with a recipe that has `data.path`) a split's name.
        meta: the clean rows, of any of these kinds; likewise `test`, to measure with, and
            `validation`.
        model: hub name or directory (`model.name`).
        text, image, label, true_label: names of the columns. With `image` the task is image
            classification.
        correction: also learn a label for each example.
        recipe: a built-in recipe's name or a YAML file to start from; default: the defaults.
        settings: recipe values by dotted key, `{"training.epochs": 2}`; they win over the above.
        seed: of the first run.
        output: a directory for everything that `sama reweight` writes; None: nothing is kept on
            disk. `recipe.yaml` calls rows in memory `train`, `meta`, … and cannot bring them back.
        overwrite: replace a finished or an unfinished run in `output`.
        resume: go on with the unfinished run in `output`.
        device: "auto", "cpu", "cuda" or "mps".
        progress: told what goes on; default: silence.

    Raises:
        SamaError: anything wrong with the data, the model or a setting, in one sentence.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    return _run(
        run_reweight,
        dataset,
        {"meta": meta, "test": test, "validation": validation},
        recipe,
        _said(model, text, image, label, true_label, seed) | {"reweight.correction": correction},
        settings,
        output,
        overwrite=overwrite,
        resume=resume,
        device=device,
        progress=progress,
    )


def prune(
    dataset: Rows | str | Path,
    meta: AnyRows | None = None,
    *,
    keep: float | Sequence[float] | None = None,
    test: AnyRows | None = None,
    validation: AnyRows | None = None,
    model: str | Path | None = None,
    text: str | None = None,
    image: str | None = None,
    label: str | None = None,
    true_label: str | None = None,
    recipe: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> Result[Rows]:
    """Keep the part of `dataset` that training needs.

    keep: a fraction (0.7) or a count (5000), or several: the first is what is handed back, all are
    measured. meta: clean rows; without them the training data are their own yardstick. Everything
    else: see `reweight`.

    Raises:
        SamaError: anything wrong with the data, the model or a setting, in one sentence.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    keeps = list(keep) if isinstance(keep, Sequence) else None if keep is None else [keep]
    return _run(
        run_prune,
        dataset,
        {"meta": meta, "test": test, "validation": validation},
        recipe,
        _said(model, text, image, label, true_label, seed) | {"prune.keep": keeps},
        settings,
        output,
        overwrite=overwrite,
        resume=resume,
        device=device,
        progress=progress,
    )


def _said(
    model: str | Path | None,
    text: str | None,
    image: str | None,
    label: str | None,
    true_label: str | None,
    seed: int | None,
) -> dict[str, Any]:
    """Recipe values by dotted key; None for what was not said."""
    return {
        "model.name": None if model is None else str(model),
        "data.columns.text": text,
        "data.columns.image": image,
        "data.columns.label": label,
        "data.columns.true_label": true_label,
        "task": None if image is None else "image-classification",
        "seed": seed,
    }


def _run(
    workflow: Callable[..., Any],
    dataset: Any,
    others: Mapping[str, Any],
    recipe: str | Path | None,
    said: Mapping[str, Any],
    settings: Mapping[str, Any] | None,
    output: str | Path | None,
    **how: Unpack[How],
) -> Result[Any]:
    if how["resume"] and output is None:
        raise SamaError("resume goes on with the unfinished run in an output; name that output")
    tables: dict[str, Table] = {}
    values = {key: value for key, value in said.items() if value is not None}
    for role, rows in {"train": dataset, **others}.items():
        if isinstance(rows, str | Path):
            values[f"data.{role}"] = str(rows)
        elif rows is not None:
            values[f"data.{role}"] = role
            tables[role] = Table(_as_dataset(rows, role), f"the {role} rows", confined=False)
    name = None if recipe is None else str(recipe)
    loaded = load_recipe(
        name,
        [],
        values | dict(settings or {}),
        rows="train" in tables,
        note=(how.get("progress") or Silent()).note,
    )
    with _folder(None if output is None else local_path(output, "output")) as folder:
        workflow(loaded, folder, tables=tables, **how)
        return _result(dataset, tables.get("train"), loaded, folder, output is not None)


@contextlib.contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    if output is not None:
        yield output
        return
    with tempfile.TemporaryDirectory(prefix="sama-") as folder:
        try:
            yield Path(folder) / "run"
        except Interrupted as end:  # what was kept to go on with goes with the folder
            raise Interrupted("interrupted; nothing was written", end.code) from None


def _as_dataset(rows: Any, role: str) -> datasets.Dataset:
    try:
        if isinstance(rows, datasets.Dataset):
            return rows.with_format(None)
        if isinstance(rows, pandas.DataFrame):
            return datasets.Dataset.from_pandas(rows, preserve_index=False)
        if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
            names = dict.fromkeys(name for row in rows for name in row)
            return datasets.Dataset.from_dict({n: [row.get(n) for row in rows] for n in names})
    except (ValueError, TypeError, OverflowError) as error:  # Arrow's errors are among these
        reason = str(error).splitlines()[0]
        raise SamaError(
            f"the {role} rows cannot be made a table ({reason}); give every column one type"
        ) from error
    raise SamaError(
        f"the {role} rows are a {type(rows).__name__}; give a datasets.Dataset (one split, not a "
        "DatasetDict), a pandas DataFrame, a list of dicts, or a file's name"
    )


def _result(
    given: Any, table: Table | None, recipe: Recipe, folder: Path, kept: bool
) -> Result[Any]:
    scores = pandas.read_parquet(folder / "scores.parquet")
    kept_rows = scores if "keep" not in scores else scores[scores["keep"]]
    positions = kept_rows["index"].to_numpy()
    # Noise that the settings asked for is in the labels that were trained on.
    changed = [recipe.data.columns.label] if recipe.data.noise.kind != "none" else []
    columns = _columns(folder / "dataset", [WEIGHT_COLUMN, LABEL_COLUMN, CLEAN_COLUMN, *changed])
    if table is None:
        rows = read_files(sorted((folder / "dataset").glob("train-*.parquet"))).rows
    else:
        rows = _with(given, table.rows, positions, columns)
    found = find_model(folder)
    saved = Model(name=str(found.folder))
    return Result(
        dataset=rows,
        clean=_clean(given, folder / CLEAN_FILE),
        scores=scores,
        suspects=pandas.read_csv(folder / "suspects.csv", keep_default_na=False),
        model=load_model(saved, found.task, found.classes).eval(),
        processor=load_processor(saved, found.task),
        metrics=json.loads((folder / "metrics.json").read_text(encoding="utf-8")),
        output=folder if kept else None,
    )


def _clean(given: Any, file: Path) -> Any:
    """The exported clean rows, as the kind that was given; None where there are none."""
    if not file.is_file():
        return None
    rows = read_files([file]).rows
    if isinstance(given, datasets.Dataset | str | Path):
        return rows
    names = {n: _readable(cells(rows, n), rows.features[n]) for n in rows.column_names}
    if isinstance(given, pandas.DataFrame):
        return pandas.DataFrame(names)
    return [dict(zip(names, row, strict=True)) for row in zip(*names.values(), strict=True)]


def _columns(folder: Path, names: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """Columns of an exported dataset, those it has, as (values, feature)."""
    files = sorted(folder.glob("train-*.parquet"))
    features = datasets.Features.from_arrow_schema(pq.read_schema(files[0]))
    found = [name for name in dict.fromkeys(names) if name in features]
    parts = [pq.read_table(file, columns=found) for file in files]
    return {
        name: ([v for part in parts for v in part[name].to_pylist()], features[name])
        for name in found
    }


def _with(
    given: Any,
    rows: datasets.Dataset,
    positions: np.ndarray,
    columns: Mapping[str, tuple[Any, Any]],
) -> Any:
    """The rows at `positions` with columns added, as the kind that was given."""
    if isinstance(given, pandas.DataFrame):
        frame = given.iloc[positions].copy()
        for name, (values, feature) in columns.items():
            frame[name] = _readable(values, feature)
        return frame
    if isinstance(given, datasets.Dataset):
        return with_columns(given.select(positions), columns)
    made = [dict(given[i]) for i in positions]
    for name, (values, feature) in columns.items():
        for row, value in zip(made, _readable(values, feature), strict=True):
            row[name] = value
    return made


def _readable(values: list[Any], feature: Any) -> list[Any]:
    """Values for a kind of table that knows no class names."""
    if isinstance(feature, datasets.ClassLabel):
        return [None if value is None else feature.names[value] for value in values]
    return values
