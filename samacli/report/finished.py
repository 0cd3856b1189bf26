"""A finished run of `reweight` or `prune`, read from its files alone."""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from samacli.data.sheet import csv_text
from samacli.errors import SamaError
from samacli.export.metrics import LABEL_COLUMN
from samacli.export.training_curves import LEARNING_FILE, WEIGHT_FILE
from samacli.recipe.load import read_yaml
from samacli.store.output import METRICS_FILE, RECIPE_FILE

WORKFLOWS = ("reweight", "prune")


@dataclass(frozen=True)
class Scores:
    """What was learnt of each training row (n), in input order.

    index: the row's position in the input. names: what it is called there, where it has a name.
    given, prediction, suggested: class names, None where there is no given label; suggested is the
    corrected label where labels were corrected, else the prediction. weight: mean 1. loss: nats,
    nan without a given label. uncertainty: nats.
    mislabelled: how probable it is that the given label is wrong, where that is known; a score,
    unless the run is `calibrated`. score, keep: of
    pruning, what rows are ranked by, and which are kept.
    """

    index: np.ndarray
    given: np.ndarray
    prediction: np.ndarray
    suggested: np.ndarray
    weight: np.ndarray
    loss: np.ndarray
    uncertainty: np.ndarray
    mislabelled: np.ndarray | None
    score: np.ndarray | None
    keep: np.ndarray | None
    names: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def measure(self) -> str:
        """What rows are ranked by: the weight, or the score, where they are pruned."""
        return "weight" if self.score is None else "score"

    @property
    def ranked_by(self) -> np.ndarray:
        """The values of `measure` (n,); the higher, the more valuable."""
        return self.weight if self.score is None else self.score

    @functools.cached_property
    def classes(self) -> list[str]:
        """Given labels, the most frequent first."""
        names, counts = np.unique(self.given[self.labelled].astype(str), return_counts=True)
        return names[np.argsort(-counts, kind="stable")].tolist()

    @functools.cached_property
    def labelled(self) -> np.ndarray:
        """bool (n,)."""
        return np.array([name is not None for name in self.given], dtype=bool)

    def of_class(self, name: str) -> np.ndarray:
        """Rows with that given label."""
        return np.flatnonzero(self.given == name)

    def quantiles(self, name: str) -> list[float]:
        """5, 25, 50, 75, 95 % and mean of the weights of a class."""
        weights = self.weight[self.of_class(name)]
        return [*np.percentile(weights, [5, 25, 50, 75, 95]), weights.mean()]

    def in_dataset(self, row: int) -> int | None:
        """Where in `dataset/` the row is; None where it was pruned."""
        if self.keep is None:
            return row
        return int(self.keep[:row].sum()) if self.keep[row] else None


@dataclass(frozen=True)
class FinishedRun:
    """The files of a run.

    metrics: `metrics.json`. recipe: `recipe.yaml` as it stands there. suspects: the lines of
    `suspects.csv`. learning: lines of `curves/learning.csv`; weight_lines: of
    `curves/weight_by_loss.csv`; both empty where the run has none.
    """

    directory: Path
    metrics: dict[str, Any]
    recipe: dict[str, Any]
    recipe_text: str
    scores: Scores
    suspects: list[dict[str, str]]
    learning: list[dict[str, str]]
    weight_lines: list[dict[str, str]]

    @classmethod
    def read(cls, directory: Path) -> FinishedRun:
        """Read a run's directory.

        Raises:
            SamaError: it is not one, or a file of it is missing or damaged.
        """
        metrics = read_metrics(directory)
        workflow = metrics.get("workflow")
        if workflow not in WORKFLOWS:
            raise SamaError(
                f"'{directory}' holds a run of `sama {workflow}`; reports are made of "
                "`sama reweight` and `sama prune`"
            )
        text, recipe = read_recipe(directory)
        return cls(
            directory=directory,
            metrics=metrics,
            recipe=recipe,
            recipe_text=text,
            scores=_scores(directory, corrected=_corrected(str(workflow), recipe)),
            suspects=list(lines(directory / "suspects.csv")),
            learning=list(lines(directory / LEARNING_FILE, needed=False)),
            weight_lines=list(lines(directory / WEIGHT_FILE, needed=False)),
        )

    @property
    def workflow(self) -> str:
        return str(self.metrics["workflow"])

    @property
    def corrected(self) -> bool:
        """Whether labels were corrected."""
        return _corrected(self.workflow, self.recipe)

    @property
    def calibrated(self) -> bool:
        """Whether `Scores.mislabelled` are calibrated probabilities, not scores."""
        return bool(_get(self.metrics, "calibration", "fitted"))

    @property
    def wrong_name(self) -> str:
        """What `Scores.mislabelled` is called: a probability only where it is one, or unknown."""
        known = self.calibrated or self.metrics.get("no_probability")
        return "P(wrong)" if known else "score for wrong"

    @property
    def seeds(self) -> list[int]:
        return list(self.metrics.get("seeds", []))

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each split, by name."""
        return dict(self.metrics.get("rows", {}))

    @property
    def text_columns(self) -> list[str]:
        return list(_get(self.metrics, "columns", "text_columns") or [])

    @property
    def image_column(self) -> str | None:
        found: str | None = _get(self.metrics, "columns", "image_column")
        return found

    @property
    def features(self) -> list[str]:
        """What the weights are made from."""
        return list(_get(self.recipe, self.workflow, "features") or [])


def read_metrics(directory: Path) -> dict[str, Any]:
    """`metrics.json` of any run.

    Raises:
        SamaError: there is none, or it is damaged.
    """
    if not directory.is_dir():
        raise SamaError(f"there is no directory '{directory}'; name one that a run has written")
    text = _text(directory / METRICS_FILE)
    try:
        metrics = json.loads(text)
    except ValueError as error:
        raise SamaError(f"'{directory / METRICS_FILE}' is not JSON: {error}") from error
    if not isinstance(metrics, dict):
        raise SamaError(f"'{directory / METRICS_FILE}' holds no object of figures; run it again")
    return metrics


def read_recipe(directory: Path) -> tuple[str, dict[str, Any]]:
    """`recipe.yaml` of any run: its text, and what is in it.

    Raises:
        SamaError: there is none, or it is damaged.
    """
    text = _text(directory / RECIPE_FILE)
    return text, read_yaml(text, str(directory / RECIPE_FILE))


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        raise SamaError(
            f"'{file.parent}' holds no {file.name}, so it is no finished run; name the directory "
            "that --output named"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SamaError(f"'{file}' cannot be read: {error}") from error


def lines(file: Path, *, needed: bool = True, escaped: bool = True) -> Iterator[dict[str, str]]:
    """The rows of a CSV file; escaped: whether its cells are `csv_cell`s, or as they are.

    Raises:
        SamaError: it is missing and needed, or damaged.
    """
    if not needed and not file.is_file():
        return
    plain = csv_text if escaped else str
    limit = csv.field_size_limit(2**31 - 1)  # the library's own stops at 131,072 characters
    try:
        text = _text(file).removeprefix("\ufeff")  # a spreadsheet's
        for line in csv.DictReader(io.StringIO(text, newline="")):
            yield {key: plain(value or "") for key, value in line.items() if key is not None}
    except csv.Error as error:
        raise SamaError(f"'{file}' is not CSV: {error}") from error
    finally:
        csv.field_size_limit(limit)


def _corrected(workflow: str, recipe: Mapping[str, Any]) -> bool:
    return workflow == "reweight" and bool(_get(recipe, "reweight", "correction"))


def _scores(directory: Path, *, corrected: bool) -> Scores:
    file = directory / "scores.parquet"
    with _opened(file) as parquet:
        table = parquet.read()
    weight = "weight" if "weight" in table.column_names else "score"
    missing = {"index", "given_label", "prediction", "loss", weight} - set(table.column_names)
    if missing:
        raise SamaError(f"'{file}' has no column '{min(missing)}'; was it made by samacli?")

    def column(name: str, kind: type = np.float64, default: Any = None) -> Any:
        return table[name].to_numpy().astype(kind) if name in table.column_names else default

    right = column("right")
    prediction = _objects(table["prediction"].to_pylist())
    # Without correction the column, if it is there, has given and clean labels.
    suggested = _class_names_of(directory / "dataset", LABEL_COLUMN) if corrected else None
    if suggested is None or len(suggested) != len(table):  # not corrected, or corrected and pruned
        suggested = prediction
    return Scores(
        index=column("index", np.int64),
        given=_objects(table["given_label"].to_pylist()),
        prediction=prediction,
        suggested=suggested,
        weight=column(weight),
        loss=column("loss"),
        uncertainty=column("uncertainty", default=np.full(len(table), np.nan)),
        mislabelled=column("mislabelled", default=None if right is None else 1 - right),
        score=column("score"),
        keep=column("keep", np.bool_),
        names=_objects(table["id"].to_pylist()) if "id" in table.column_names else None,
    )


def _objects(values: Sequence[Any]) -> np.ndarray:
    return np.array([*values, None], dtype=object)[:-1]


def _get(tree: Mapping[str, Any], *keys: str) -> Any:
    found: Any = tree
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def example_rows(run: FinishedRun, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Text or image columns of training rows, by row.

    Of rows that were pruned, the text of those that are suspects; the others are not there.
    """
    wanted = {row: run.scores.in_dataset(row) for row in rows}
    columns = run.text_columns if run.image_column is None else [run.image_column]
    places = [place for place in wanted.values() if place is not None]
    found = _columns_of(run.directory / "dataset", columns, places)
    told = {int(line["index"]): line for line in run.suspects} if run.text_columns else {}
    pruned = {row: told.get(int(run.scores.index[row])) for row, p in wanted.items() if p is None}
    return {
        **{row: found[place] for row, place in wanted.items() if place in found},
        **{row: line for row, line in pruned.items() if line is not None},
    }


def _columns_of(
    folder: Path, columns: Sequence[str], places: Sequence[int]
) -> dict[int, dict[str, Any]]:
    """Columns of the rows at `places` (counted over all files in order), by place.

    Only the row groups that hold one are read. Columns or rows that are not there are left out.

    Raises:
        SamaError: a file cannot be read.
    """
    left = np.unique(np.array(places, dtype=np.int64))
    found: dict[int, dict[str, Any]] = {}
    start = 0
    for file in sorted(folder.glob("*.parquet")):
        with _opened(file) as parquet:
            names = [name for name in columns if name in parquet.schema_arrow.names]
            for group in range(parquet.num_row_groups):
                count = parquet.metadata.row_group(group).num_rows
                inside = left[(left >= start) & (left < start + count)]
                if len(inside) and names:
                    table = parquet.read_row_group(group, columns=names).take(inside - start)
                    found |= dict(zip(inside.tolist(), table.to_pylist(), strict=True))
                start += count
    return found


def _class_names_of(folder: Path, column: str) -> np.ndarray | None:
    """A whole column of labels as class names (n,), None for a missing one; None: no such column.

    Raises:
        SamaError: a file cannot be read.
    """
    names: list[str | None] = []
    files = sorted(folder.glob("*.parquet"))
    for file in files:
        with _opened(file) as parquet:
            schema = parquet.schema_arrow
            if column not in schema.names:
                return None
            values = parquet.read(columns=[column])[column].to_pylist()
        # The names of a `datasets.ClassLabel` are in the metadata.
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", "{}"))
        feature = _get(metadata, "info", "features", column) or {}
        classes = feature.get("names") if feature.get("_type") == "ClassLabel" else None
        names += [None if v is None else str(v) if classes is None else classes[v] for v in values]
    return _objects(names) if files else None


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(file) as parquet:
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise SamaError(f"'{file}' cannot be read: {' '.join(str(error).split())}") from error
