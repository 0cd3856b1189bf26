"""The WRENCH benchmark's format: votes of labelling functions, and their majority as given label.

A directory with `train.json`, `valid.json`, `test.json`, each
`{"0": {"label": 1, "weak_labels": [-1, 1, …], "data": {"text": …}}, …}` with −1 for an
abstention, and `label.json`, `{"0": "HAM", "1": "SPAM"}`. In relation sets (ChemProt, SemEval)
`data` also says which two entities the relation is between: `span1` and `span2`,
[first, last + 1] in characters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

import datasets
import numpy as np
import pyarrow as pa

from samacli.data.confine import refuse_outside
from samacli.data.table import Table, first_line
from samacli.errors import SamaError, counted, reason

MARKED_TEXT = "marked_text"
FILES = {"train": "train.json", "validation": "valid.json", "test": "test.json"}


def is_wrench(folder: Path) -> bool:
    return (folder / "label.json").is_file() and (folder / "train.json").is_file()


def majority_vote(votes: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """The class that most labelling functions name.

    votes: int (n, functions), −1 for an abstention. A tie goes to one of the tied classes, drawn
    with `seed` for each row by its position (WRENCH's own majority vote draws too, unseeded);
    a fixed rule such as "the smallest" would favour one class. Returns int64 (n,), −1 where every
    function abstains.
    """
    counts = np.stack([(votes == label).sum(axis=1) for label in range(classes)], axis=1)
    draws = np.random.default_rng(seed).random(counts.shape)
    # The draws are below 1, so they decide between equal counts and nothing else.
    chosen = (counts + draws).argmax(axis=1).astype(np.int64)
    chosen[counts.sum(axis=1) == 0] = -1
    return chosen


def read_wrench(
    folder: Path, file: str, label: str, seed: int, true_label: str = "true_label"
) -> Table:
    """One split: the example's own fields, `weak_labels`, and two class labels.

    Relation sets get a `marked_text` besides: the text with its first entity in $ and its second in
    #, which BERT and RoBERTa have tokens for (R-BERT, Wu and He 2019); a text alone would not say
    which two entities are meant.

    `label` is the majority vote and `true_label` the file's own label (null where it has none).
    Raises SamaError naming file and row.
    """
    path = folder / file
    for one in (path, folder / "label.json"):
        refuse_outside(one, folder)
    names = _class_names(folder / "label.json")
    entries = _load(path)
    fields: list[str] = []
    for entry in entries.values():
        fields += [name for name in entry["data"] if name not in fields]
    taken = {label, true_label, "weak_labels", MARKED_TEXT}
    columns: dict[str, list[Any]] = {
        name if name not in taken else f"data_{name}": [
            entry["data"].get(name) for entry in entries.values()
        ]
        for name in fields
    }
    if {"text", "span1", "span2"} <= set(fields):
        columns[MARKED_TEXT] = [_marked(path, key, entry["data"]) for key, entry in entries.items()]
    votes = _votes(path, entries, len(names))
    given = majority_vote(votes, len(names), seed)
    features = {
        label: datasets.ClassLabel(names=names),
        true_label: datasets.ClassLabel(names=names),
        "weak_labels": datasets.List(datasets.Value("int64")),
    }
    columns["weak_labels"] = votes.tolist()
    columns[label] = [None if value < 0 else int(value) for value in given]
    columns[true_label] = [
        _true_label(path, key, entry, len(names)) for key, entry in entries.items()
    ]
    rows = datasets.Dataset.from_dict(
        {name: _stored(path, name, values) for name, values in columns.items()}
    )
    rows = rows.cast(datasets.Features({**rows.features, **features}))
    return Table(rows, str(path), base=folder, true_label=true_label, votes="weak_labels")


def _stored(path: Path, field: str, values: list[Any]) -> pa.Array:
    """A field of all rows as a column of one type."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeError, ValueError, TypeError) as error:
        raise SamaError(
            f"{path}: the values of '{field}' cannot be stored as one column "
            f"({first_line(error)}); write all its values the same way"
        ) from error


def _load(path: Path) -> dict[str, dict[str, Any]]:
    entries = _json(path)
    if not isinstance(entries, dict):
        raise SamaError(f"{path} is no WRENCH file: it must be an object of rows by number")
    for key, entry in entries.items():
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("data"), dict)
            or not isinstance(entry.get("weak_labels"), list)
        ):
            raise SamaError(f"{path}: row '{key}' lacks 'data' or 'weak_labels'")
    return entries


def _marked(path: Path, key: str, data: dict[str, Any]) -> str:
    """The text with its two entities marked."""
    text = str(data.get("text") or "")
    marks = []
    for name, mark in (("span1", "$"), ("span2", "#")):
        span = data.get(name)
        if not _is_span(span, len(text)):
            raise SamaError(
                f"{path}: row '{key}' has the {name} {span!r}; it must be the first character of "
                "the entity in the text and the one after its last"
            )
        # At one place, the end of an entity stands before the beginning of the next.
        marks += [(span[1], 0, f" {mark} "), (span[0], 1, f" {mark} ")]
    for place, _, mark in sorted(marks, reverse=True):  # what is put in moves no later place
        text = text[:place] + mark + text[place:]
    return " ".join(text.split())


def _is_span(span: Any, length: int) -> TypeGuard[list[int]]:
    if not isinstance(span, list) or len(span) != 2 or not all(type(i) is int for i in span):
        return False
    return 0 <= span[0] <= span[1] <= length


def _votes(path: Path, entries: dict[str, dict[str, Any]], classes: int) -> np.ndarray:
    width = len(next(iter(entries.values()))["weak_labels"]) if entries else 0
    for key, entry in entries.items():
        row = entry["weak_labels"]
        if len(row) != width:
            raise SamaError(
                f"{path}: row '{key}' has {counted(len(row), 'weak label')}, the first has {width}"
            )
        for vote in row:
            if not isinstance(vote, int) or not -1 <= vote < classes:
                raise SamaError(
                    f"{path}: row '{key}' has the weak label {vote!r}; it must be −1 or a class "
                    f"of label.json (0 to {classes - 1})"
                )
    rows = [entry["weak_labels"] for entry in entries.values()]
    return np.array(rows, dtype=np.int64).reshape(len(entries), width)


def _true_label(path: Path, key: str, entry: dict[str, Any], classes: int) -> int | None:
    value = entry.get("label")
    if value is None or value == -1:
        return None
    if not isinstance(value, int) or not 0 <= value < classes:
        raise SamaError(
            f"{path}: row '{key}' has the label {value!r}, which label.json does not name"
        )
    return value


def _class_names(path: Path) -> list[str]:
    names = _json(path)
    if not isinstance(names, dict) or {str(i) for i in range(len(names))} != set(names):
        raise SamaError(f'{path} must name the classes by number: {{"0": "HAM", "1": "SPAM"}}')
    if len(names) < 2 or len({str(name) for name in names.values()}) < len(names):
        raise SamaError(f"{path} must name two classes or more, each by a name of its own")
    return [str(names[str(i)]) for i in range(len(names))]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise SamaError(f"there is no file {path}") from error
    except UnicodeDecodeError as error:
        raise SamaError(f"{path} is not UTF-8 text; convert it to UTF-8") from error
    except json.JSONDecodeError as error:
        raise SamaError(f"{path} is not valid JSON: {error.msg} in line {error.lineno}") from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, deep nesting
        raise SamaError(f"{path} is not JSON that can be read: {reason(error)}") from error
