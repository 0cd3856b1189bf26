"""What became of methods after their rows were seen: the ledger of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samacli.lab.table.plan import Cell
from samacli.lab.table.rows import Ledger, Row


@dataclass(frozen=True)
class Past:
    """Of the rows of one method in one setting, on the draws of data that they are of.

    seen: the method was changed, in its settings or its code, after earlier rows of it on the same
        data: whoever changed it may have chosen by them. changed: its code is another one today.
    unknown: rows that do not say what code made them.
    """

    seen: bool = False
    changed: bool = False
    unknown: bool = False


def past(cell: Cell, rows: Sequence[Row], ledger: Ledger, code: Mapping[str, str]) -> Past:
    """code: of each method today, as `code_of` gives it; a method that it lacks is not judged."""
    now = code.get(cell.entry.method)
    return Past(
        seen=any(_changed_after(row, cell, ledger) for row in rows),
        changed=any(now is not None and row.code not in (None, now) for row in rows),
        unknown=any(row.code is None for row in rows),
    )


def _changed_after(row: Row, cell: Cell, ledger: Ledger) -> bool:
    """Whether an earlier row of the method on the same data was of other settings or code."""
    return any(
        earlier.finished < row.finished
        and (earlier.group, earlier.draw, earlier.seed) == (row.group, row.draw, row.seed)
        and earlier.setting in (row.setting, cell.setting.name)
        and earlier.method == row.method
        and (earlier.code != row.code or not ledger.same(earlier.digest, cell))
        for earlier in ledger.rows
    )
