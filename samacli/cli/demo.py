"""`sama demo`"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from samacli.cli import options


class Demo(str, Enum):
    text = "text"
    vision = "vision"


_COMMANDS = {Demo.text: "reweight", Demo.vision: "prune"}


def demo(
    context: typer.Context,
    which: Annotated[
        Demo,
        typer.Argument(
            metavar="text|vision",
            help="text: reweight news, some of whose labels are wrong; vision: prune digits.",
            show_default=False,
        ),
    ] = Demo.text,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Directory for the results (default: runs/demo-text or runs/demo-vision).",
            show_default=False,
            callback=options.home,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
) -> None:
    """Run the demo, on real data that come with it (the extra `demo`); minutes on a CPU.

    The same as `sama reweight demo-text` or `sama prune demo-vision`.

    Example:

        sama demo text
    """
    flags = {"--overwrite": overwrite, "--resume": resume, "--dry-run": dry_run, "--json": json}
    arguments = [
        f"demo-{which.value}",
        "--output",
        str(output or Path("runs", f"demo-{which.value}")),
        *(flag for flag, given in flags.items() if given),
    ]
    above: Any = context.parent
    name = _COMMANDS[which]
    command = above.command.get_command(above, name)
    with command.make_context(name, arguments, parent=above) as inner:
        command.invoke(inner)
