"""What `sama table` shows: what came out, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.table import Table

from samacli.lab.table.description import Table as TableOfRuns
from samacli.lab.table.estimate import Left
from samacli.lab.table.figures import blocks
from samacli.lab.table.ledger import Ledger
from samacli.lab.table.plan import Cell
from samacli.lab.table.run import duration
from samacli.training.spread import with_spread


def overview_table(table: TableOfRuns, cells: Sequence[Cell], ledger: Ledger) -> Table:
    """Test accuracy of each method in each setting: mean ± standard deviation over the seeds."""
    found = blocks(table, cells, ledger)
    shown_table = Table(title=f"{table.title}: accuracy", title_justify="left")
    shown_table.add_column("method", no_wrap=True)
    for block in found:
        shown_table.add_column(block.setting.name, justify="right")
    for entry in dict.fromkeys(line.entry.name for block in found for line in block.lines):
        figures = []
        for block in found:
            line = block.line(entry)
            rows = [] if line is None else list(line.rows.values())
            figures.append(with_spread([row.accuracy for row in rows if row.accuracy is not None]))
        shown_table.add_row(entry, *figures, style="bold" if entry == table.ours else None)
    return shown_table


def overview_values(
    table: TableOfRuns, cells: Sequence[Cell], ledger: Ledger
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Test accuracy by setting, method and seed."""
    return {
        block.setting.name: {
            line.entry.name: {str(seed): row.accuracy for seed, row in sorted(line.rows.items())}
            for line in block.lines
        }
        for block in blocks(table, cells, ledger)
    }


def left_values(left: Left, seconds: Callable[[Cell], float | None]) -> list[dict[str, Any]]:
    """What is left to run, with the seconds that it may take where rows so far tell."""
    return [
        {
            "setting": cell.setting.name,
            "method": cell.entry.name,
            "seed": cell.seed,
            "seconds": seconds(cell),
        }
        for cell in left.runs
    ]


def left_table(left: Left, seconds: Callable[[Cell], float | None], jobs: int) -> Table:
    """What is left to run, and for how long where rows so far tell."""
    times = [seconds(cell) for cell in left.runs]
    known = [time for time in times if time is not None]
    total = "for how long no row tells"
    if len(known) == len(times):
        total = f"about {duration(sum(known) / jobs)} with {jobs} at a time"
    table = Table(
        title=f"{left.done:,} cells done, {len(left.runs):,} runs left, {total}",
        title_justify="left",
    )
    for name in ("setting", "method", "seed"):
        table.add_column(name)
    table.add_column("about", justify="right")
    for cell, time in zip(left.runs, times, strict=True):
        table.add_row(
            cell.setting.name,
            cell.entry.name,
            str(cell.seed),
            "?" if time is None else duration(time),
        )
    return table
