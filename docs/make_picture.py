"""docs/demo.svg: what a run of `sama reweight` ends with, drawn from the files that it left.

`make tour` draws it of its own run; `make picture RUN=runs/demo-text` of any other. No figure is
typed in here: it is what the command prints.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from rich.console import Console

from samacli.cli import console, ending, tables
from samacli.errors import counted
from samacli.export.results import Results

TARGET = Path(__file__).with_name("demo.svg")


def draw(run: Path, command: str, target: Path = TARGET) -> None:
    """run: of `reweight`, its directory as it is to be shown."""
    shown = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    for module in (console, ending, tables):
        module.stdout = shown
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    methods = {name: Results.from_dict(values) for name, values in metrics["methods"].items()}
    table = tables.methods_table(
        f"test results over {counted(len(metrics['seeds']), 'seed')}", methods
    )
    shown.print(f"$ {command}", highlight=False, style="bold", soft_wrap=True)
    console.say(*ending.ending(run, [table], "dataset/, scores.parquet, suspects.csv, model/, …"))
    shown.save_svg(str(target), title="sama reweight")


if __name__ == "__main__":
    draw(Path(sys.argv[1]), f"sama reweight … --output {sys.argv[1]}")
