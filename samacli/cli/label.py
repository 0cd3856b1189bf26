"""`sama label`: which rows a person should check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samacli.cli import options
from samacli.cli.console import wrapped
from samacli.cli.opening import progress, tell
from samacli.cli.report import Directory

_CLASSES = 8


def label(
    context: typer.Context,
    directory: Directory,
    budget: Annotated[
        int, typer.Option("--budget", min=1, help="How many rows to ask about.")
    ] = 50,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="csv, for a spreadsheet; argilla, records that Argilla 2 imports; label-studio, "
            "its tasks, and the labelling interface beside them (.xml).",
        ),
    ] = "csv",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file; by default label.csv or label.json in DIR.",
            show_default=False,
            callback=options.home,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    json: options.Json = False,
) -> None:
    """Choose the rows whose true label would help most, in a file with an empty column to fill in.

    Rows that stand for many others of which little is known yet, none of them in the clean set.
    Fill in what you know, leave empty what you do not, and give the file to --meta.

    Examples:

        sama label runs/mine --budget 50

        sama label runs/mine --format label-studio --output tasks.json
    """
    from samacli.runs.label import label as run

    found = run(
        directory,
        budget=budget,
        kind=format_,  # type: ignore[arg-type]  # checked there
        output=output,
        overwrite=overwrite,
        device=options.settings(context).device.value,
        progress=progress(context),
    )
    asked = len(found.questions)
    drawn = ""
    if found.looked_at < found.free:
        drawn = f" ({found.looked_at:,} of them, drawn by chance, were looked at)"
    tell(
        context,
        found.as_dict(),
        wrapped(
            f"{', '.join(map(str, found.files))}: {asked:,} of {found.free:,} rows that nobody has "
            f"checked{drawn}"
        ),
        wrapped(f"suggested labels: {_counts(found.by_suggested)}"),
        wrapped(f"given labels: {_counts(found.by_given)}"),
        wrapped("fill in what you know, and leave the rest empty"),
        f"next: {found.next}",
    )


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{name or 'none'} ({count:,})" for name, count in list(counts.items())[:_CLASSES]]
    return ", ".join(shown) + (", …" if len(counts) > _CLASSES else "")
