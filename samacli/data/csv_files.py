"""CSV and TSV: Python's own strict reader, and a suspicion of quotes that nobody meant.

Not pandas, pyarrow or DuckDB, though they are faster: each reads on without a word where characters
follow a closing quote, and makes numbers of `001` and `1e3` or missing cells of the text "NA".
A cell is text, and a column is one of numbers only if every cell is written as that number is: what
goes out is what came in.
"""

from __future__ import annotations

import contextlib
import csv
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc

from samacli.data.arrow_cache import converted
from samacli.data.table import first_line, open_text
from samacli.errors import SamaError, counted

_ROWS_AT_ONCE = 5_000
_CHARACTERS_AT_ONCE = 64 << 20
_SUSPECTS = 1000  # of lines within quotes, looked at most
_SEPARATORS = ",;\t|"
_MENDS = (
    'where quotes are plain characters set data.quoting=none, where \\" stands for a quote set '
    "data.escape=backslash, else double every quote within a quoted cell"
)


@dataclass(frozen=True)
class CsvStyle:
    """How cells are written: see `data.quoting` and `data.escape` of a recipe."""

    quoting: str = "checked"
    escape: str = "none"


AS_USUAL = CsvStyle()


def read_csv(paths: Sequence[Path], delimiter: str, style: CsvStyle) -> datasets.Dataset:
    """The rows of all files, which have one header.

    delimiter: of the files' ending; a header that lacks it is looked at for the other usual ones.
    Raises SamaError naming file and line.
    """

    def convert(target: Path) -> None:
        _Conversion(paths, delimiter, style).write(target)

    kind = "tsv" if delimiter == "\t" else "csv"
    return converted(paths, kind, convert, style.quoting, style.escape)


@dataclass
class _Swallowed:
    """A line within a quoted cell that could be a row of its own: its cells, by column."""

    path: Path
    line: int
    cells: dict[int, str]
    tabs: bool


@dataclass
class _Conversion:
    """CSV files on their way into one Arrow file."""

    paths: Sequence[Path]
    delimiter: str
    style: CsvStyle
    suspects: list[_Swallowed] = field(default_factory=list)

    def write(self, target: Path) -> None:
        """Every cell as text first; then columns of numbers as numbers, if there are any."""
        names = self._header(self.paths[0])
        types: list[pa.DataType | None] = [None] * len(names)
        schema = pa.schema([(name, pa.string()) for name in names])
        with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for path in self.paths:
                other = self._header(path)
                if other != names:
                    raise SamaError(
                        f"{self.paths[0]} and {path} do not have the same columns with the same "
                        f"types, so they are not one split: {', '.join(names)} and "
                        f"{', '.join(other)}"
                    )
                for rows in self._batches(path, len(names)):
                    columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
                    types = [_type(c, t) for c, t in zip(columns, types, strict=True)]
                    writer.write_batch(pa.record_batch(columns, schema))
        with pa.memory_map(str(target)) as source:
            table = pa.ipc.open_stream(source).read_all()
            self._refuse_swallowed(table)
            if not any(kind is not None and kind != pa.string() for kind in types):
                return
            numbers = target.with_suffix(".numbers")
            schema = pa.schema([(n, k or pa.string()) for n, k in zip(names, types, strict=True)])
            with pa.OSFile(str(numbers), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
                for batch in table.to_batches():
                    arrays = [_cast(c, f.type) for c, f in zip(batch.columns, schema, strict=True)]
                    writer.write_batch(pa.record_batch(arrays, schema))
        numbers.replace(target)

    def _header(self, path: Path) -> list[str]:
        for _, cells in self._rows(path):
            doubled = sorted({name for name in cells if cells.count(name) > 1})
            if any("\0" in name for name in cells):
                raise SamaError(f"{path} has a null character in its header; save it as UTF-8 text")
            if doubled:
                raise SamaError(f"{path} has two columns named '{doubled[0]}'; rename one")
            return cells
        raise SamaError(f"{path} is empty")

    def _batches(self, path: Path, width: int) -> Iterator[list[list[str]]]:
        rows: list[list[str]] = []
        characters = 0
        for number, (line, cells) in enumerate(self._rows(path)):
            if number == 0:
                continue
            if len(cells) != width:
                raise SamaError(
                    f"{path}: line {line} has {counted(len(cells), 'cell')} where the header has "
                    f"{width}; "
                    "quote cells that hold the separator"
                    + (f"; {_MENDS}" if any('\\"' in cell for cell in cells) else "")
                )
            rows.append(cells)
            characters += sum(map(len, cells))
            if len(rows) >= _ROWS_AT_ONCE or characters > _CHARACTERS_AT_ONCE:
                yield rows
                rows, characters = [], 0
        if rows:
            yield rows

    def _rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """(number of its last line, cells) of every row, the header's among them."""
        quoted = self.style.quoting != "none"
        escape = "\\" if self.style.escape == "backslash" else None
        settings: dict[str, Any] = {
            "delimiter": self._delimiter(path),
            "quoting": csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            "escapechar": escape,
            "strict": True,
        }
        with _cells_of_any_size(), open_text(path) as text:
            reader = csv.reader(text, **settings)
            start = 1
            try:
                for cells in reader:
                    if quoted and reader.line_num > start and self.style.quoting == "checked":
                        self._look_within(path, start, cells, settings["delimiter"])
                    if cells:
                        yield reader.line_num, cells
                    start = reader.line_num + 1
            except csv.Error as error:
                if "expected after" in str(error):
                    fault = f"is closed in line {reader.line_num}, and characters follow it"
                else:
                    fault = "is never closed"
                raise SamaError(
                    f"{path}: a quote that opens a cell of the row in line {start} {fault}; "
                    f"{_MENDS}"
                ) from error
            except (pa.ArrowException, EOFError) as error:
                raise SamaError(f"cannot read {path} as CSV: {first_line(error)}") from error

    def _delimiter(self, path: Path) -> str:
        """The ending's own, or the one that the header has most of where it lacks that."""
        with open_text(path) as text:
            header = text.readline(1 << 16)
        if self.delimiter in header:
            return self.delimiter
        found = max(_SEPARATORS, key=header.count)
        return found if found in header else self.delimiter

    def _look_within(self, path: Path, start: int, cells: list[str], delimiter: str) -> None:
        """Take down the lines within quoted cells that have the cells of a row."""
        width = len(cells)
        for column, cell in enumerate(cells):
            lines = cell.split("\n")
            for offset, line in enumerate(lines[:-1]):
                first = column if offset == 0 else 0
                pieces = line.rstrip("\r").split(delimiter)
                if len(pieces) == width - first > 1 and len(self.suspects) < _SUSPECTS:
                    found = dict(enumerate(pieces, first))
                    if offset == 0:
                        del found[first]
                    tabs = delimiter == "\t"
                    self.suspects.append(_Swallowed(path, start, found, tabs))
            start += len(lines) - 1

    def _refuse_swallowed(self, table: pa.Table) -> None:
        """Raise SamaError for a line within quotes that ends as rows do.

        A text of several lines may hold separators. That one of its lines has as many as a row, and
        a cell of it stands in that column elsewhere, a label that is, is no chance; nor are tabs.
        """
        known: dict[int, set[str]] = {}
        for one in self.suspects:
            for column, cell in one.cells.items():
                if column not in known:
                    values = table.column(column)
                    known[column] = set(pc.unique(values).to_pylist()) if len(values) else set()
                if (cell and cell in known[column]) or one.tabs:
                    raise SamaError(
                        f"{one.path}: a quote that opens a cell of the row in line {one.line} goes "
                        f"on over what looks like other rows (with '{cell[:40]}' in column "
                        f"'{table.column_names[column]}'); {_MENDS}; if that text is right so, set "
                        "data.quoting=trusted"
                    )


@contextlib.contextmanager
def _cells_of_any_size() -> Iterator[None]:
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _type(cells: pa.Array, so_far: pa.DataType | None) -> pa.DataType | None:
    """int64 or double if that is how every cell is written, but for empty ones; else text."""
    if so_far == pa.string():
        return so_far
    filled = cells.filter(pc.not_equal(cells, ""))
    if len(filled) == 0:
        return so_far
    if so_far in (None, pa.int64()) and _survive_as_integers(filled):
        return pa.int64()
    if so_far in (None, pa.float64()) and all(map(_survives_as_float, filled.to_pylist())):
        return pa.float64()
    return pa.string()


def _survive_as_integers(cells: pa.Array) -> bool:
    try:
        return bool(cells.cast(pa.int64()).cast(pa.string()).equals(cells))
    except pa.ArrowInvalid:
        return False


def _survives_as_float(cell: str) -> bool:
    try:
        number = float(cell)
    except ValueError:
        return False
    return math.isfinite(number) and repr(number) == cell


def _cast(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    if kind == pa.string():
        return cells
    return pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells).cast(kind)
