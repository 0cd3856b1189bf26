"""docs/demo.svg: the last lines of `make demo`, drawn from the files that it left.

Run it by `make picture` after `make demo`. No figure is typed in here.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from samacli.cli.tables import methods_table, noise_sentence
from samacli.export.results import Results


def suspects(path: Path, rows: int) -> Table:
    table = Table(title="suspects.csv, the worst first", title_justify="left")
    for name in ("probability", "weight", "given", "suggested", "text"):
        table.add_column(name)
    with path.open(newline="", encoding="utf-8") as file:
        for row, _ in zip(csv.DictReader(file), range(rows), strict=False):
            text = Text(" ".join(row["text"].split())[:44] + "…")
            told = (row[name] for name in ("probability", "weight", "given_label"))
            table.add_row(*told, row["suggested_label"], text)
    return table


def show_pruned(console: Console, image_run: Path) -> None:
    pruned = json.loads((image_run / "metrics.json").read_text())
    console.print("\n$ sama prune demo-vision", highlight=False)
    rows = {"full": Results.from_dict(pruned["methods"]["full"])}
    for name in ("random", "sama"):
        for keep, values in pruned["methods"][name]["by_keep"].items():
            rows[f"{name} {keep}"] = Results.from_dict(values)
    console.print(
        methods_table(f"test results after retraining, {len(pruned['seeds'])} seed(s)", rows)
    )
    console.print(noise_sentence(pruned["noise_detection"]), highlight=False)


def main(text_run: Path, image_run: Path, target: Path) -> None:
    console = Console(record=True, width=100, file=sys.stderr)
    reweighted = json.loads((text_run / "metrics.json").read_text())
    console.print("$ sama reweight demo-text", highlight=False)
    methods = {name: Results.from_dict(values) for name, values in reweighted["methods"].items()}
    console.print(methods_table(f"test results over {len(reweighted['seeds'])} seed(s)", methods))
    console.print(noise_sentence(reweighted["noise_detection"]), highlight=False)
    console.print(suspects(text_run / "suspects.csv", 6))
    if (image_run / "metrics.json").is_file():
        show_pruned(console, image_run)
    console.save_svg(str(target), title="make demo")


if __name__ == "__main__":
    main(Path("runs/demo-text"), Path("runs/demo-vision"), Path("docs/demo.svg"))
