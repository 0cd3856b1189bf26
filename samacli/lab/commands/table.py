"""`sama table`"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from samacli.cli import options
from samacli.cli.console import ConsoleProgress, QuietProgress, complain, print_json, say
from samacli.errors import SamaError
from samacli.lab.commands.bench import names_of

if TYPE_CHECKING:
    from samacli.lab.table.description import TableSpec
    from samacli.lab.table.figures import Block

INTERRUPTED = 130
part = partial(typer.Option, rich_help_panel="Part of the table (lists with commas)")
running = partial(typer.Option, rich_help_panel="How it is run")
JOBS = (
    "Runs at a time. Default: the table's, else one on a GPU, else one for each of up to two cores."
)
THREADS = "Threads of each run. Default: the cores shared out among the jobs."
FOLDER = "The folder with the data sets, for the data/ of the recipes."


def table(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="[TABLE]", help="A built-in table's name or a YAML file.")
    ] = "text",
    only: Annotated[str | None, part("--only", help="Settings.")] = None,
    methods: Annotated[
        str | None, part("--methods", help="Methods, as the table shows them.")
    ] = None,
    seeds: Annotated[str | None, part("--seeds", help="Seeds, instead of the table's.")] = None,
    jobs: Annotated[int | None, running("--jobs", min=1, help=JOBS)] = None,
    threads: Annotated[int | None, running("--threads", min=1, help=THREADS)] = None,
    data: Annotated[Path | None, running("--data", help=FOLDER)] = None,
    output: Annotated[Path, running("--output", "-o", help="The folder of the results.")] = Path(
        "runs/tables"
    ),
    redo_outdated: Annotated[
        bool,
        running("--redo-outdated", help="Run again what was measured with an older recipe."),
    ] = False,
    dry_run: Annotated[
        bool, running("--dry-run", help="List what is left and how long it may take.")
    ] = False,
    json: options.Json = False,
    render: Annotated[
        bool, running("--render", help="Make the page of the rows that are there.")
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
    from samacli.lab.table import run as runs
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
    left = runs.left(cells, ledger, redo_outdated=redo_outdated)
    if left.outdated and not redo_outdated:
        progress.warn(
            f"{len(left.outdated)} runs have rows of an older recipe or another precision (first "
            f"{left.outdated[0].title}); --redo-outdated runs them again"
        )
    how = runs.options(
        chosen.device.value, jobs or described.jobs, threads, scores=store.scores.resolve()
    )
    if dry_run:
        waiting = [
            {
                "setting": cell.setting.name,
                "method": cell.entry.name,
                "seed": cell.seed,
                "seconds": runs.seconds(cell, ledger),
            }
            for cell in left.runs
        ]
        if json:
            print_json(waiting)
        else:
            say(_left_table(left.done, waiting, how.jobs))
        return
    if render and not rows:
        raise SamaError(
            f"--render: there are no rows in '{store.file}' yet; run `sama table {name}` first"
        )
    store.check()
    outcome = None
    try:
        if left.runs and not render:
            outcome = runs.run_table(
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
        accuracies = {
            block.setting.name: {
                line.entry.name: {str(seed): r.accuracy for seed, r in sorted(line.rows.items())}
                for line in block.lines
            }
            for block in found
        }
        print_json({"settings": accuracies, "files": files})
    else:
        say(_overview_table(described, found), ", ".join(map(str, files)))
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


def _left_table(done: int, waiting: Sequence[dict[str, Any]], jobs: int) -> Table:
    """What is left to run, and for how long where rows so far tell."""
    from samacli.lab.table.run import duration

    times = [run["seconds"] for run in waiting]
    total = "for how long no row tells"
    if None not in times:
        total = f"about {duration(sum(times) / jobs)} with {jobs} at a time"
    title = f"{done:,} cells done, {len(waiting):,} runs left, {total}"
    table = Table("setting", "method", "seed", title=title, title_justify="left")
    table.add_column("about", justify="right")
    for run, time in zip(waiting, times, strict=True):
        about = "?" if time is None else duration(time)
        table.add_row(run["setting"], run["method"], str(run["seed"]), about)
    return table
