"""A sheet of rows to label: cells that a spreadsheet may open, and how they come back filled in."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import datasets

from samacli.data.table import Table

# Columns of `sama label` beside the row's own; the last tells such a file from any other.
SUGGESTED_COLUMN, WHY_COLUMN = "sama_suggested", "sama_why"

# What a spreadsheet takes for a formula: https://owasp.org/www-community/attacks/CSV_Injection.
# Quotes before it count as well, so that `csv_text` can tell its own from the text's.
_FORMULA = re.compile(r"'*(?:\s*[=+\-@＝＋－＠]|[\t\r\n])")


def csv_cell(value: Any) -> Any:
    """The value as it may stand in a CSV file: text that a spreadsheet would run gets a quote.

    Text that is a number (a class called "-1") stays; `csv_text` gives any text back.
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value):
        return "'" + value
    return value


def csv_text(cell: str) -> str:
    """The text that `csv_cell` made this of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def is_sheet(table: Table) -> bool:
    """Whether `sama label` wrote it, or a labelling tool that was given what `sama label` wrote."""
    return WHY_COLUMN in table.rows.column_names


def as_data(table: Table) -> Table:
    """A sheet with its cells as the data have them; any other table as it is."""
    features = table.rows.features
    if not is_sheet(table) or not all(isinstance(f, datasets.Value) for f in features.values()):
        return table
    columns: dict[str, list[Any]] = {}
    for name, feature in features.items():
        cells = table.rows[name][:]
        if feature.dtype in ("string", "large_string"):
            cells = [None if cell is None else csv_text(cell) for cell in cells]
        columns[csv_text(name)] = cells
    kinds = datasets.Features({csv_text(name): feature for name, feature in features.items()})
    return replace(table, rows=datasets.Dataset.from_dict(columns, features=kinds))


def _is_number(text: str) -> bool:
    # Plain ones alone: `float` takes more ("-inf", "-1_000"), and "-1\n" is not one.
    return re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is not None
