"""Text from the data on its way out: harmless in a terminal, a spreadsheet and a web page.

Web pages are made by Jinja with autoescape on; `printable` goes before it, as for a terminal.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from samacli.data.sheet import csv_cell

# C0 and C1 control characters but tab and line feed (so also ESC, which starts a terminal's escape
# sequences, and CSI, which is one), marks that turn the direction of writing round, line and
# paragraph separators, lone surrogates, which no encoding takes, and noncharacters.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
    "\ufdd0-\ufdef\ufffe\uffff]"
)
_REPLACEMENT = "\ufffd"


def printable(text: str) -> str:
    """Text whose control characters (see above) are replacement characters; CR LF becomes LF."""
    return _CONTROL.sub(_REPLACEMENT, text.replace("\r\n", "\n"))


def one_line(text: str, width: int | None = None) -> str:
    """Printable text with single spaces for white space, cut with an ellipsis at `width`."""
    line = " ".join(printable(text).split())
    return line if width is None or len(line) <= width else line[: max(width - 1, 0)] + "…"


def write_csv(
    path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], *, encoding: str = "utf-8"
) -> None:
    """Write a CSV file whose cells are `csv_cell`s."""
    with path.open("w", newline="", encoding=encoding, errors="replace") as file:
        writer = csv.writer(file)
        writer.writerow([csv_cell(name) for name in header])
        writer.writerows([csv_cell(value) for value in row] for row in rows)
