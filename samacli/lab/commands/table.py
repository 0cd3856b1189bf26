"""`sama table`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from samacli.cli import options
from samacli.cli.console import ConsoleProgress, QuietProgress, complain, print_json, stdout
from samacli.errors import SamaError

if TYPE_CHECKING:
    from samacli.lab.table import Cell, Choice, Ledger, Table

INTERRUPTED = 130
PART = "Part of the table (lists with commas)"
RUNNING = "How it is run"


def table(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="[TABLE]", help="A built-in table's name or a YAML file.")
    ] = "text",
    only: Annotated[
        str | None, typer.Option("--only", help="Settings.", rich_help_panel=PART)
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option("--methods", help="Methods, as the table shows them.", rich_help_panel=PART),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seeds", help="Seeds, instead of the table's.", rich_help_panel=PART),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            min=1,
            help="Runs at a time. Default: the table's, else one on a GPU, else one for each of "
            "up to two cores.",
            rich_help_panel=RUNNING,
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            help="Threads of each run. Default: the cores shared out among the jobs.",
            rich_help_panel=RUNNING,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="The folder with the data sets, for the data/ of the recipes.",
            rich_help_panel=RUNNING,
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The folder of the results.", rich_help_panel=RUNNING),
    ] = Path("docs/results"),
    redo_outdated: Annotated[
        bool,
        typer.Option(
            "--redo-outdated",
            help="Run again what was measured with an older recipe.",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="List what is left and how long it may take.",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    json: options.Json = False,
    render: Annotated[
        bool,
        typer.Option(
            "--render", help="Make the page of the rows that are there.", rich_help_panel=RUNNING
        ),
    ] = False,
) -> None:
    """Compare methods over settings and seeds: a row a run, and a page made of the rows.

    A run that has its row is not repeated: interrupt and go on as you like. Writes NAME.jsonl,
    and from it NAME.md, NAME.csv and NAME.png.

    Examples:

        sama table text --data ../shared/data --dry-run

        sama table text --only trec-10 --methods noisy,sama --seeds 0 --output runs/explore

        sama table text --render
    """
    from samacli.lab import table as tables
    from samacli.lab.commands.table_view import (
        left_table,
        left_values,
        overview_table,
        overview_values,
    )
    from samacli.lab.table import estimate
    from samacli.lab.table import run as running

    chosen = options.settings(context)
    if chosen.seed is not None:
        raise SamaError("--seed: a table has several; give --seeds 1,2,3")
    progress = QuietProgress() if chosen.quiet else ConsoleProgress()
    described = tables.load_table(name)
    choice = tables.Choice(_names(only), _names(methods), _numbers("--seeds", seeds), data)
    cells = tables.plan(described, choice)
    store = tables.Store(output, described.name)
    rows, notes = store.read()
    for note in notes:
        progress.warn(note)
    ledger = tables.Ledger(store, rows)
    left = tables.left(cells, ledger, redo_outdated=redo_outdated)
    if left.outdated and not redo_outdated:
        progress.warn(
            f"{len(left.outdated)} runs have rows of an older recipe or another precision (first "
            f"{left.outdated[0].title}); --redo-outdated runs them again"
        )
    how = running.options(
        chosen.device.value, jobs or described.jobs, threads, scores=store.scores.resolve()
    )
    if dry_run and json:
        print_json(left_values(left, lambda cell: estimate.seconds(cell, ledger)))
        return
    if dry_run:
        stdout.print(left_table(left, lambda cell: estimate.seconds(cell, ledger), how.jobs))
        return
    if render and not rows:
        raise SamaError(
            f"--render: there are no rows in '{store.file}' yet; run `sama table {name}` first"
        )
    store.check()
    outcome = None
    try:
        if left.runs and not render:
            outcome = tables.run_table(
                left.runs, store, ledger, options=how, progress=progress, debug=chosen.debug
            )
    except KeyboardInterrupt:
        complain(
            f"interrupted; finished runs are in {store.file}, and the same command goes on",
            style="",
        )
        raise typer.Exit(INTERRUPTED) from None
    files = tables.render(described, _page(described, choice, ledger), ledger, output)
    if json:
        print_json(
            {
                "settings": overview_values(described, cells, ledger),
                "files": [store.file, *files],
            }
        )
    else:
        stdout.print(overview_table(described, cells, ledger))
        stdout.print(
            ", ".join(map(str, [store.file, *files])), highlight=False, soft_wrap=True, markup=False
        )
    if outcome is not None:
        outcome.check()


def _page(described: Table, choice: Choice, ledger: Ledger) -> list[Cell]:
    """The whole table, whatever part was run; of the seeds chosen, if its own have no rows yet."""
    from samacli.lab import table as tables

    cells = tables.plan(described)
    if any(ledger.row(cell) for cell in cells):
        return cells
    return tables.plan(described, tables.Choice(seeds=choice.seeds))


def _names(text: str | None) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))


def _numbers(option: str, text: str | None) -> list[int]:
    names = _names(text)
    if not all(name.isdecimal() for name in names):
        raise SamaError(f"{option} '{text}' is not a whole number, or a list such as 1,2,3")
    return [int(name) for name in names]
