"""`sama compare`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samacli.cli.console import print_json, stdout
from samacli.cli.options import Json


def compare(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR DIR …", help="Finished runs.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Show runs side by side: accuracy, wrong labels found, time, and where recipes differ.

    Example:

        sama compare runs/first runs/second
    """
    from samacli.cli.tables import comparison_table, differences_table
    from samacli.report.compare import compare as run

    found = run(directories)
    if json:
        print_json(found.as_dict())
        return
    stdout.print(comparison_table(found))
    differences = differences_table(found)
    if differences is None:
        stdout.print("the recipes are the same", highlight=False)
    else:
        stdout.print(differences)
