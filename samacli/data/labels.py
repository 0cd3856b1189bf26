"""Labels as class ids.

A label in a file may be text, a whole number (also as float or boolean) or an id of a ClassLabel
column. Each is brought to its class *name* first, so that the splits of one dataset agree on the
classes even where their files disagree on types. White space around a name is no part of it.
"""

from __future__ import annotations

import math
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Sequence

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from samacli.data.table import Table, cells, is_json
from samacli.errors import SamaError, counted, nearest

NONE = -1
# How R and pandas write a missing value in a column of numbers.
_MISSING = frozenset(("NA", "N/A", "NaN", "nan", "NULL", "null", "<NA>", "None"))


def label_names(table: Table, column: str, declared: Sequence[str] | None) -> np.ndarray:
    """The class name of every row; object (n,), None where a row has no label.

    No label: null, NaN, empty text, and −1 among ids of named classes. Whole numbers index
    `declared`, the names that a ClassLabel column gives, if there is one; elsewhere −1 is a name
    (see `settle_minus_one`). Raises SamaError for a column that is no label column.
    """
    feature = table.rows.features[column]
    values = _column(table.rows, column)
    if isinstance(feature, datasets.ClassLabel):
        return _by_index(values, feature.names, table, column)
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if pa.types.is_null(kind):
        return np.full(len(values), None, dtype=object)
    if pa.types.is_boolean(kind):
        return _objects(pc.if_else(values, "True", "False"))
    if pa.types.is_floating(kind):
        values = _whole(values, table, column)
        kind = values.type
    if pa.types.is_integer(kind):
        if declared is not None and not numeric(declared):
            return _by_index(values, declared, table, column)
        return _objects(values.cast(pa.string()))
    if _is_text(kind) and not is_json(feature):
        names = _objects(values)
        return names if table.typed else _untyped(names, table, column, declared)
    if is_json(feature):
        first, second = _two_kinds(table.rows, column)
        raise SamaError(
            f"column '{column}' of {table.origin} mixes {first} and {second} as labels; "
            "write all labels the same way"
        )
    raise SamaError(
        f"column '{column}' of {table.origin} holds {kind}, which is no label; labels are text, "
        "whole numbers or booleans"
    )


def is_numbers(table: Table, column: str, names: Collection[str]) -> bool:
    """Whether labels of these names are numbers as far as the table's format tells."""
    kind = getattr(table.rows.features[column], "dtype", "")
    return numeric(names) and (kind.startswith(("int", "uint", "float")) or not table.typed)


def settle_minus_one(
    names: np.ndarray, table: Table, column: str, meaning: str, clean: Collection[str] | None
) -> np.ndarray:
    """The names with −1 as what it is: a class, or no label (None).

    meaning: `data.minus_one` of a recipe. clean: the labels of the clean splits, by which "ask" is
    answered; None where there are none. Raises SamaError where it stays open.
    """
    others = {name for name in names if name is not None} - {"-1"}
    count = int((names == "-1").sum())
    if not count or meaning == "class" or not is_numbers(table, column, {*others, "-1"}):
        return names
    if meaning == "ask":
        # A scale below zero, or one of two classes.
        if len(others) < 2 or any(name.startswith("-") for name in others):
            return names
        if clean is not None and "-1" in clean:
            return names
        shown = ", ".join(_sorted(others)[:6])
        raise SamaError(
            f"column '{column}' of {table.origin} has −1 in {count:,} of "
            f"{counted(len(names), 'row')}, "
            f"beside {shown}: say whether that is a class (data.minus_one=class) or means that no "
            "label was given (data.minus_one=none)"
        )
    return _without_minus_one(names)


def as_known(names: np.ndarray, table: Table, column: str, classes: Sequence[str]) -> np.ndarray:
    """The names as those of known classes: −1 as no label (None) where it is a number and none of
    them, true and false in the letters that they have (CSV's are text, JSON's are none)."""
    written = {name.casefold(): name for name in classes}
    if set(written) == {"true", "false"}:
        names = np.array([name and written.get(name.casefold(), name) for name in names], object)
    found = {name for name in names if name is not None}
    if "-1" not in classes and is_numbers(table, column, found):
        return _without_minus_one(names)
    return names


def _without_minus_one(names: np.ndarray) -> np.ndarray:
    names = names.copy()
    names[names == "-1"] = None
    return names


def alike(classes: Sequence[str]) -> list[list[str]]:
    """Groups of classes whose names differ in nothing but case, width, Unicode form, invisible
    characters, spaces, or how a number is written."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        groups[folded(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def folded(name: str) -> str:
    """What names have in common that one takes for the same."""
    shown = (c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
    text = " ".join("".join(shown).casefold().split())
    try:
        number = float(text)
    except ValueError:
        return unicodedata.normalize("NFKC", text)
    return repr(number) if math.isfinite(number) else text


def declared_classes(table: Table, columns: Sequence[str]) -> list[str] | None:
    """The class names that the first ClassLabel column among `columns` declares."""
    for column in columns:
        feature = table.rows.features.get(column)
        if isinstance(feature, datasets.ClassLabel):
            return list(feature.names)
    return None


def as_class_labels(
    rows: datasets.Dataset, column: str, declared: Sequence[str]
) -> datasets.Dataset:
    """Rows whose column of numbers says by its type that they are ids of the declared names."""
    dtype = getattr(rows.features[column], "dtype", "")
    if isinstance(rows.features[column], datasets.ClassLabel) or not dtype.startswith(
        ("int", "uint")
    ):
        return rows
    try:
        return rows.cast_column(column, datasets.ClassLabel(names=list(declared)))
    except (ValueError, pa.ArrowException):  # a number without a name, which label_names refuses
        return rows


def class_order(names: np.ndarray, declared: Sequence[str] | None) -> list[str]:
    """Every class in stable order: as declared, else numbers by value, else names as text.

    names: object (n,) of given labels of the training split, None for none.
    """
    seen = {name for name in names if name is not None}
    if declared is not None:
        return list(declared) + _sorted(seen - set(declared))
    return _sorted(seen)


def class_ids(names: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """int64 (n,): position of each name in `classes`; −1 for None and for names not in it."""
    position = {name: i for i, name in enumerate(classes)}
    return np.array([position.get(name, NONE) for name in names], dtype=np.int64)


def check_known(
    names: np.ndarray, classes: Sequence[str], table: Table, column: str, known_to: str
) -> None:
    """Refuse a label that is not among `classes`, naming label, split and row.

    names: object (n,), one for each row of the table. known_to: whose classes these are, for the
    message ("the training split").
    """
    known = set(classes)
    for row, name in enumerate(names):
        if name is not None and name not in known:
            shown = ", ".join(list(classes)[:12]) + (" …" if len(classes) > 12 else "")
            twin = next((one for one in classes if folded(one) == folded(name)), None)
            meant = nearest(name, classes) if twin is None else f"; did you mean '{twin}'?"
            raise SamaError(
                f"{table.origin} has the label '{name}' in row {row} (counted from 0, column "
                f"'{column}'), which {known_to} lacks; the labels known are: {shown}{meant}"
            )


def _untyped(
    names: np.ndarray, table: Table, column: str, declared: Sequence[str] | None
) -> np.ndarray:
    """Names of a format without types, in which numbers are text where they are written oddly."""
    found = {name for name in names if name is not None}
    if not found - _MISSING or not all(map(_is_number, found - _MISSING)):
        return names
    names = np.array([None if name in _MISSING else name for name in names], dtype=object)
    for row, name in enumerate(names):
        if name is None or numeric([name]):
            continue
        # Beyond 2**53 a float tells one whole number from the next no more.
        if not float(name).is_integer() or abs(float(name)) > 2**53:
            raise SamaError(
                f"column '{column}' of {table.origin} has the label {name} in row {row} (counted "
                "from 0); labels are text or whole numbers"
            )
    return names


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return "_" not in name


def _sorted(names: set[str]) -> list[str]:
    if numeric(names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def numeric(names: Collection[str]) -> bool:
    """Whether every name is a whole number, and there is one."""
    return bool(names) and all(name.removeprefix("-").isdecimal() for name in names)


def _by_index(
    values: pa.ChunkedArray, names: Sequence[str], table: Table, column: str
) -> np.ndarray:
    ids = pc.fill_null(values, NONE).to_numpy().astype(np.int64)
    outside = np.flatnonzero((ids < NONE) | (ids >= len(names)))
    if outside.size:
        raise SamaError(
            f"column '{column}' of {table.origin} has the label {ids[outside[0]]} in row "
            f"{outside[0]} (counted from 0), but only "
            f"{counted(len(names), 'class is', 'classes are')} named"
        )
    lookup = np.array([*names, None], dtype=object)  # index −1 is None
    return lookup[ids]


def _whole(values: pa.ChunkedArray, table: Table, column: str) -> pa.ChunkedArray:
    numbers = pc.fill_null(values, np.nan).to_numpy().astype(np.float64)
    with np.errstate(invalid="ignore"):
        # Beyond 2**53 a float tells one whole number from the next no more.
        whole = (numbers == np.floor(numbers)) & (np.abs(numbers) <= 2**53)
        broken = np.flatnonzero(~np.isnan(numbers) & ~whole)
    if broken.size:
        raise SamaError(
            f"column '{column}' of {table.origin} has the label {numbers[broken[0]]:g} in row "
            f"{broken[0]} (counted from 0); labels are text or whole numbers"
        )
    return pa.chunked_array([pa.array(numbers, mask=np.isnan(numbers)).cast(pa.int64())])


def _column(rows: datasets.Dataset, column: str) -> pa.ChunkedArray:
    """One column with the row selection applied; the other columns stay where they are."""
    return rows.select_columns([column]).with_format("arrow")[:][column]


def _objects(values: pa.ChunkedArray) -> np.ndarray:
    """object (n,). Each distinct name is one Python string, shared by its rows; None if empty."""
    encoded = values.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    stripped = [name.strip() or None for name in encoded.dictionary.to_pylist()]
    lookup = np.array([*stripped, None], dtype=object)
    return lookup[pc.fill_null(encoded.indices, len(lookup) - 1).to_numpy(zero_copy_only=False)]


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _two_kinds(rows: datasets.Dataset, column: str) -> tuple[str, str]:
    words = {str: "text", int: "numbers", float: "numbers", bool: "booleans"}
    kinds: list[str] = []
    for value in cells(rows, column):
        word = words.get(type(value), type(value).__name__)
        if value is not None and word not in kinds:
            kinds.append(word)
        if len(kinds) == 2:
            return kinds[0], kinds[1]
    return kinds[0] if kinds else "nothing", "nested values"
