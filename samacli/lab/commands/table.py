"""`sama table`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from samacli.cli import options
from samacli.cli.console import ConsoleProgress, QuietProgress, complain, print_json, stdout
from samacli.errors import SamaError
from samacli.lab.commands.bench import names_of

if TYPE_CHECKING:
    from samacli.lab.table.description import TableSpec
    from samacli.lab.table.figures import Block
    from samacli.lab.table.run import Left

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
    ] = Path("runs/tables"),
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
    from samacli.lab.table import run as running
    from samacli.lab.table.description import load_table
    from samacli.lab.table.figures import blocks
    from samacli.lab.table.page import render as rendered
    from samacli.lab.table.plan import Choice, plan
    from samacli.lab.table.rows import Ledger, Store

    chosen = options.settings(context)
    if chosen.seed is not None:
        raise SamaError("--seed: a table has several; give --seeds 1,2,3")
    progress = QuietProgress() if chosen.quiet else ConsoleProgress()
    described = load_table(name)
    choice = Choice(names_of(only), names_of(methods), _numbers("--seeds", seeds), data)
    cells = plan(described, choice)
    store = Store(output, described.name)
    rows, notes = store.read()
    for note in notes:
        progress.warn(note)
    ledger = Ledger(store, rows)
    left = running.left(cells, ledger, redo_outdated=redo_outdated)
    if left.outdated and not redo_outdated:
        progress.warn(
            f"{len(left.outdated)} runs have rows of an older recipe or another precision (first "
            f"{left.outdated[0].title}); --redo-outdated runs them again"
        )
    how = running.options(
        chosen.device.value, jobs or described.jobs, threads, scores=store.scores.resolve()
    )
    if dry_run:
        times = [running.seconds(cell, ledger) for cell in left.runs]
        if json:
            print_json(_left_values(left, times))
        else:
            stdout.print(_left_table(left, times, how.jobs))
        return
    if render and not rows:
        raise SamaError(
            f"--render: there are no rows in '{store.file}' yet; run `sama table {name}` first"
        )
    store.check()
    outcome = None
    try:
        if left.runs and not render:
            outcome = running.run_table(
                left.runs, store, ledger, options=how, progress=progress, debug=chosen.debug
            )
    except KeyboardInterrupt:
        complain(
            f"interrupted; finished runs are in {store.file}, and the same command goes on",
            style="",
        )
        raise typer.Exit(INTERRUPTED) from None
    # The whole table, whatever part was run; of the seeds chosen, if its own have no rows yet.
    whole = plan(described)
    if not any(ledger.row(cell) for cell in whole):
        whole = plan(described, Choice(seeds=choice.seeds))
    files = [store.file, *rendered(described, whole, ledger, output)]
    found = blocks(described, cells, ledger)
    if json:
        print_json({"settings": _overview_values(found), "files": files})
    else:
        stdout.print(_overview_table(described, found))
        stdout.print(", ".join(map(str, files)), highlight=False, soft_wrap=True, markup=False)
    if outcome is not None:
        outcome.check()


def _numbers(option: str, text: str | None) -> list[int]:
    names = names_of(text)
    if not all(name.isdecimal() for name in names):
        raise SamaError(f"{option} '{text}' is not a whole number, or a list such as 1,2,3")
    return [int(name) for name in names]


def _overview_table(described: TableSpec, found: Sequence[Block]) -> Table:
    """Test accuracy of each method in each setting: mean ± standard deviation over the seeds."""
    from samacli.lab.table.figures import figure

    table = Table(title=f"{described.title}: accuracy", title_justify="left")
    table.add_column("method", no_wrap=True)
    for block in found:
        table.add_column(block.setting.name, justify="right")
    for entry in dict.fromkeys(line.entry.name for block in found for line in block.lines):
        lines = [block.line(entry) for block in found]
        figures = [figure(line.accuracy if line else None) for line in lines]
        table.add_row(entry, *figures, style="bold" if entry == described.ours else None)
    return table


def _overview_values(
    found: Sequence[Block],
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Test accuracy by setting, method and seed."""
    return {
        block.setting.name: {
            line.entry.name: {str(seed): row.accuracy for seed, row in sorted(line.rows.items())}
            for line in block.lines
        }
        for block in found
    }


def _left_values(left: Left, times: Sequence[float | None]) -> list[dict[str, Any]]:
    """What is left to run, with the seconds that it may take where rows so far tell."""
    return [
        {
            "setting": cell.setting.name,
            "method": cell.entry.name,
            "seed": cell.seed,
            "seconds": time,
        }
        for cell, time in zip(left.runs, times, strict=True)
    ]


def _left_table(left: Left, times: Sequence[float | None], jobs: int) -> Table:
    """What is left to run, and for how long where rows so far tell."""
    from samacli.lab.table.run import duration

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
        about = "?" if time is None else duration(time)
        table.add_row(cell.setting.name, cell.entry.name, str(cell.seed), about)
    return table
