"""What is left to run, and for how long, judged by the rows that are there."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from samacli.lab.table import kind
from samacli.lab.table.ledger import Ledger
from samacli.lab.table.plan import Cell
from samacli.lab.table.row import Row


@dataclass(frozen=True)
class Left:
    """Runs to do, in order; outdated: runs whose rows are of an older recipe, not in `runs` unless
    they are to be redone; done: cells that have their row."""

    runs: list[Cell]
    outdated: list[Cell]
    done: int


def left(cells: Sequence[Cell], ledger: Ledger, *, redo_outdated: bool = False) -> Left:
    """What is left of the cells, each run once though several cells may share it."""
    runs: dict[tuple[str, int, str], Cell] = {}
    outdated: dict[tuple[str, int, str], Cell] = {}
    done = 0
    for cell in cells:
        if ledger.row(cell) is not None:
            done += 1
        elif ledger.outdated(cell) is not None:
            outdated.setdefault(cell.run, cell)
            if redo_outdated:
                runs.setdefault(cell.run, cell)
        else:
            runs.setdefault(cell.run, cell)
    # Cells that share a run may differ in whether an older row is known; the run is one.
    if not redo_outdated:
        runs = {run: cell for run, cell in runs.items() if run not in outdated}
    return Left(list(runs.values()), list(outdated.values()), done)


def seconds(cell: Cell, ledger: Ledger) -> float | None:
    """How long a run is likely to take: as others of its data set and method did, or, where there
    are none, of its method, or any; None where there are no rows at all.

    Of subsets: as plain runs in the same setting did, times how many of those it is worth.
    """
    rows = ledger.rows
    cost = kind.cost(cell.workflow, cell.recipe, cell.entry.method)
    if cost is not None:
        return _by_cost(cell, rows, cost)
    same_method = [row for row in rows if row.algorithm == cell.entry.method]
    for found in (
        [row for row in same_method if row.setting == cell.setting.name],
        [row for row in same_method if row.group == cell.setting.group],
        same_method,
        rows,
    ):
        if found:
            return statistics.fmean(row.wall_seconds for row in found)
    return None


def _by_cost(cell: Cell, rows: Sequence[Row], cost: float) -> float | None:
    own = [row for row in rows if row.setting == cell.setting.name]
    same = [row.wall_seconds for row in own if row.algorithm == cell.entry.method]
    if cost > 1 and same:
        return statistics.fmean(same)
    known = kind.methods(cell.workflow)
    for found in (own, [row for row in rows if row.group == cell.setting.group]):
        plain = [
            row.wall_seconds
            for row in found
            if row.algorithm in known and kind.cost(cell.workflow, cell.recipe, row.algorithm) == 1
        ]
        if plain:
            return cost * statistics.fmean(plain)
    return None
