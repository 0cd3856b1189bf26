"""JSON and JSON lines, through `datasets.load_dataset`, which converts once and memory-maps."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.json

from samacli.data.table import first_line, load_with_library, open_text
from samacli.errors import SamaError, reason

_CHUNK_BYTES = 10 << 20  # what the library reads at a time, taking the first for the types of all

_NULL_LINE = re.compile(rb"(?m)^[ \t]*null[ \t\r]*$")


def read_json(paths: list[Path]) -> datasets.Dataset:
    """The rows of all files. Raises SamaError naming the file, and the line or column at fault."""
    for path in paths:
        refuse_null_rows(path)
    try:
        return load_with_library("json", paths)
    except (SamaError, UnicodeDecodeError):
        raise
    except Exception as error:  # the library wraps what went wrong in several of its own types
        for path in paths:
            _check_lines(path)
        features = _features_of_all(paths)
        try:
            return load_with_library("json", paths, features=features)
        except Exception as again:
            cause = again.__cause__ or again
            raise SamaError(f"cannot read {paths[0]} as JSON: {first_line(cause)}") from error


def refuse_null_rows(path: Path, *, start_alone: bool = False) -> None:
    """Raise SamaError for a line `null`: Arrow's reader ends the process where a block starts so.

    (pyarrow 26: `pyarrow.json.read_json` of b"null" is a segmentation fault.) A file that is one
    JSON list is read otherwise, and may hold them. start_alone: look no further than the start.
    """
    number = 0
    with pa.input_stream(str(path), compression="detect") as stream:
        start = stream.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith(b"null"):
            number = 1
    if not number and not start_alone and not start.startswith(b"["):
        with pa.input_stream(str(path), compression="detect") as stream:
            number = _null_line(stream)
    if number:
        raise SamaError(
            f"{path}: line {number} is no JSON object; write one row a line, "
            '{"text": …, "label": …}'
        )


def _null_line(stream: pa.NativeFile) -> int:
    """Number of the first line that is `null`; 0 if there is none."""
    before, rest = 0, b""
    while block := stream.read(_CHUNK_BYTES):
        block = rest + block
        found = _NULL_LINE.search(block)
        if found:
            return before + block[: found.start()].count(b"\n") + 1
        end = block.rfind(b"\n") + 1
        before += block[:end].count(b"\n")
        rest = block[end:]
    return 0


def _check_lines(path: Path) -> None:
    """Raise SamaError for the first line of `path` that is no JSON object; return if all are."""
    with open_text(path) as lines:
        start = lines.read(1)
    with open_text(path) as lines:
        if start == "[":
            try:
                json.load(lines)
            except json.JSONDecodeError as error:
                raise SamaError(
                    f"{path} is not valid JSON: {error.msg} in line {error.lineno}"
                ) from error
            except (ValueError, RecursionError) as error:
                raise SamaError(f"{path} is not JSON that can be read: {reason(error)}") from error
            return
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise SamaError(
                    f"{path} is not valid JSON: {error.msg} in line {number}"
                ) from error
            except (ValueError, RecursionError) as error:  # 5,000 digits, deep nesting
                raise SamaError(
                    f"{path} is not JSON that can be read: {reason(error)} in line {number}"
                ) from error
            if not isinstance(value, dict):
                raise SamaError(
                    f"{path}: line {number} is no JSON object; write one row a line, "
                    '{"text": …, "label": …}'
                )


def _features_of_all(paths: list[Path]) -> datasets.Features:
    """Types that fit every row: a column may be missing, null or whole at first and fill later."""
    whole = pa.schema([])
    for path in paths:
        for chunk in _chunks(path):
            try:
                options = pa.json.ReadOptions(block_size=len(chunk) + 1)
                schema = pa.json.read_json(io.BytesIO(chunk), read_options=options).schema
            except pa.ArrowInvalid as error:
                mixed = re.search(r"Column\(/(.+?)\) changed from (\w+) to (\w+)", str(error))
                if mixed:
                    raise _mixed(mixed[1], path, mixed[2], mixed[3]) from error
                raise SamaError(f"cannot read {path} as JSON: {first_line(error)}") from error
            whole = _unified(whole, schema, path)
    return datasets.Features.from_arrow_schema(whole)


def _unified(first: pa.Schema, second: pa.Schema, path: Path) -> pa.Schema:
    for field in second:
        if field.name in first.names:
            known = pa.schema([first.field(field.name)])
            try:
                pa.unify_schemas([known, pa.schema([field])], promote_options="permissive")
            except pa.ArrowException as error:
                raise _mixed(field.name, path, known[0].type, field.type) from error
    return pa.unify_schemas([first, second], promote_options="permissive")


def _mixed(column: str, path: Path, first: object, second: object) -> SamaError:
    return SamaError(
        f"column '{column}' of {path} mixes {first} and {second}; write all its values the same way"
    )


def _chunks(path: Path) -> Iterator[bytes]:
    """The file in whole lines, about `_CHUNK_BYTES` at a time."""
    with open_text(path) as text:
        while lines := text.readlines(_CHUNK_BYTES):
            yield "".join(lines).encode()
