"""The page, the sheet and the picture beside the rows that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from samacli.errors import SamaError
from samacli.lab.table.description import Table
from samacli.lab.table.estimate import left
from samacli.lab.table.figures import blocks
from samacli.lab.table.ledger import Ledger
from samacli.lab.table.page import page, sheet
from samacli.lab.table.plan import Cell
from samacli.lab.table.pruning_page import pruning_page
from samacli.store.output import written


def texts(table: Table, cells: Sequence[Cell], ledger: Ledger) -> dict[str, str]:
    """The files that are text, by ending: md and csv."""
    found = blocks(table, cells, ledger)
    outdated = len(left(cells, ledger).outdated)
    make = pruning_page if table.workflow == "prune" else page
    return {"md": make(table, found, outdated=outdated), "csv": sheet(found)}


def render(table: Table, cells: Sequence[Cell], ledger: Ledger, folder: Path) -> list[Path]:
    """Write NAME.md, NAME.csv and NAME.png; each is replaced whole.

    Raises:
        SamaError: they can't be written.
    """
    from samacli.lab.table.picture import picture
    from samacli.lab.table.pruning_picture import pruning_picture

    draw = pruning_picture if table.workflow == "prune" else picture
    files = []
    try:
        for ending, text in texts(table, cells, ledger).items():
            files.append(folder / f"{table.name}.{ending}")
            with written(files[-1]) as stage:
                stage.write_text(text, encoding="utf-8")
        files.append(folder / f"{table.name}.png")
        with written(files[-1]) as stage:
            draw(table, blocks(table, cells, ledger), stage)
    except OSError as error:
        raise SamaError(f"'{files[-1]}' cannot be written: {error.strerror}") from error
    return files
