"""`sama report`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samacli.cli.console import print_json, stdout
from samacli.cli.options import Json

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="What --output of `reweight` or `prune` named.")
]


def report(directory: Directory, json: Json = False) -> None:
    """Make DIR/report.html again, from the other files of a finished run.

    Example:

        sama report runs/mine
    """
    from samacli.report import build_report

    file = build_report(directory)
    if json:
        print_json({"report": file})
    else:
        stdout.out(str(file), highlight=False)
