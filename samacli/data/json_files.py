"""JSON and JSON lines, by Python's own reader: a date stays the text that it is written as.

(The datasets library and pyarrow make a time of it, and a float of a whole number of 20 digits.)
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from samacli.data.arrow_cache import converted
from samacli.data.table import open_text
from samacli.errors import SamaError, reason

_ROWS_AT_ONCE = 5_000

Record = dict[str, Any]


def read_json(paths: Sequence[Path]) -> datasets.Dataset:
    """The rows of all files. Raises SamaError naming the file, and the line or column at fault."""

    def convert(target: Path) -> None:
        with _whole_characters(paths):
            # The types of the first rows are tried on all; where they don't fit, those of all are.
            schema = _schema(next(_batches(paths), []))
            try:
                _write(paths, schema, target)
            except _OtherError:
                for rows in _batches(paths):
                    schema = _widened(schema, _schema(rows))
                _write(paths, schema, target)

    return converted(paths, "json", convert)


def json_parts(paths: Sequence[Path], size: int) -> Iterator[pa.Table]:
    """The rows as they are read, `size` at a time; a part's types are those that its rows need.

    Raises SamaError as `read_json` does.
    """
    for path in paths:
        if path.stat().st_size == 0:
            raise SamaError(f"{path} is empty")
    with _whole_characters(paths):
        for rows in _batches(paths, size):
            schema = _schema(rows)
            columns = [_column([row.get(f.name) for row in rows], f.type) for f in schema]
            yield pa.table(columns, _stored(schema))


@contextlib.contextmanager
def _whole_characters(paths: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        raise SamaError(
            f"{paths[0]} holds half a character ({error.object[error.start]!a}), which is no text; "
            "take it out"
        ) from error


class _OtherError(Exception):
    """A batch of rows that the schema does not fit."""


# Types that stand for others: whole numbers some of which no float holds; and each value as JSON
# writes it, for numbers that no one type holds.
_LARGE, _WRITTEN = pa.uint64(), pa.large_string()
_STORED = {_LARGE: pa.int64(), _WRITTEN: pa.string()}


def _write(paths: Sequence[Path], schema: pa.Schema, target: Path) -> None:
    stored = _stored(schema)
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_stream(sink, stored) as writer:
        for rows in _batches(paths):
            if _widened(schema, _schema(rows)) != schema:
                raise _OtherError
            columns = [_column([row.get(f.name) for row in rows], f.type) for f in schema]
            writer.write_batch(pa.record_batch(columns, stored))


def _stored(schema: pa.Schema) -> pa.Schema:
    return pa.schema([(f.name, _STORED.get(f.type, f.type)) for f in schema])


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind not in (pa.json_(), _WRITTEN):
        return pa.array(values, _STORED.get(kind, kind))
    texts = [None if value is None else json.dumps(value) for value in values]
    array = pa.array(texts, pa.string())
    return array if kind == _WRITTEN else pa.ExtensionArray.from_storage(kind, array)


def _schema(rows: list[Record]) -> pa.Schema:
    """Every key of the rows, in the order of their first mention, with the type of its values."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.schema([(name, _type([row.get(name) for row in rows])) for name in names])


def _type(values: list[Any]) -> pa.DataType:
    """The type in which every value comes back as it was; JSON for values of several kinds."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds and kinds <= {int, float}:
        whole = [value for value in values if type(value) is int]
        largest = max(map(abs, whole), default=0)
        if float in kinds:
            return pa.float64() if largest <= 2**53 else _WRITTEN
        return pa.int64() if largest <= 2**53 else _LARGE if largest < 2**63 else _WRITTEN
    if len(kinds) > 1:
        return pa.json_()
    try:
        array = pa.array(values)
    except UnicodeError:
        raise
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return pa.json_()
    # A key that some lack would come back as null, 1 beside 1.5 as 1.0.
    nested = bool(kinds & {dict, list})
    return pa.json_() if nested and repr(array.to_pylist()) != repr(values) else array.type


def _widened(first: pa.Schema, second: pa.Schema) -> pa.Schema:
    """A schema for rows of both, which has all columns."""
    fields = {field.name: field.type for field in first}
    for field in second:
        known = fields.get(field.name)
        fields[field.name] = field.type if known is None else _wider(known, field.type)
    return pa.schema(list(fields.items()))


def _wider(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second or pa.types.is_null(second):
        return first
    if pa.types.is_null(first):
        return second
    both = {first, second}
    if both == {pa.int64(), pa.float64()}:
        return pa.float64()
    if both == {pa.int64(), _LARGE}:
        return _LARGE
    return _WRITTEN if both <= {pa.int64(), pa.float64(), _LARGE, _WRITTEN} else pa.json_()


def _batches(paths: Sequence[Path], size: int = _ROWS_AT_ONCE) -> Iterator[list[Record]]:
    rows: list[Record] = []
    for path in paths:
        for row in _records(path):
            rows.append(row)
            if len(rows) >= size:
                yield rows
                rows = []
    if rows:
        yield rows


def _records(path: Path) -> Iterator[Record]:
    """One by one. Raises SamaError naming the line that is no object."""
    with open_text(path) as text:
        start = text.read(1)
        while start.isspace():
            start = text.read(1)
    with open_text(path) as text:
        if start == "[":
            for number, row in enumerate(_parsed(path, text.read(), None)):
                if not isinstance(row, dict):
                    raise SamaError(f"{path}: row {number} (counted from 0) is no JSON object")
                yield row
            return
        for number, line in enumerate(text, start=1):
            if line.strip():
                row = _parsed(path, line, number)
                if not isinstance(row, dict):
                    raise _no_object(path, number)
                yield row


def _parsed(path: Path, text: str, number: int | None) -> Any:
    """number: of the line that `text` is; None for the whole file."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = error.lineno if number is None else number
        raise SamaError(f"{path} is not valid JSON: {error.msg} in line {line}") from error
    except (ValueError, RecursionError) as error:  # 5,000 digits, deep nesting
        where = "" if number is None else f" in line {number}"
        raise SamaError(f"{path} is not JSON that can be read: {reason(error)}{where}") from error


def _no_object(path: Path, line: int) -> SamaError:
    return SamaError(
        f'{path}: line {line} is no JSON object; write one row a line, {{"text": …, "label": …}}'
    )
