"""What `reweight` and `prune` end with: the verdict, the worst suspects, what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.table import Table

from samacli.cli.console import fitted, spelt, stdout, wrapped
from samacli.cli.tables import compact_table
from samacli.report.finished import FinishedRun
from samacli.report.verdict import verdict

WORST = 10
_LABELS = 32  # cells of "given → suggested"


def ending(
    directory: Path, tables: Sequence[Table | str | None], files: str
) -> list[Table | str | None]:
    """The parts of a finished run's last words, each within the terminal's width.

    tables: of the methods. files: what was written, in words.
    """
    run = FinishedRun.read(directory)
    found = verdict(run)
    return [
        wrapped(found.headline),
        *(wrapped(f"- {point}", indent="  ") for point in found.points),
        *(wrapped(part) if isinstance(part, str) else part for part in tables),
        suspects_table(run),
        wrapped(f"{directory}: {files}"),
        *next_commands(run),
    ]


def suspects_table(run: FinishedRun) -> Table | None:
    """The first of `suspects.csv`: row or name, both labels, P(wrong) or a score, content."""
    lines = run.suspects[:WORST]
    if not lines:
        return None
    named = any(line.get("id") for line in lines)
    rows = [
        (
            fitted(line.get("id") or line["index"], 16),
            _probability(line.get("probability")),
            fitted(f"{line['given_label']} → {line['suggested_label']}", _LABELS),
            _content(run, line),
        )
        for line in lines
    ]
    heading = ("id" if named else "row", run.wrong_name, spelt("label → suggested"))
    widths = [
        max(cell_len(head), *(cell_len(row[i]) for row in rows)) for i, head in enumerate(heading)
    ]
    room = stdout.width - sum(widths) - 2 * len(widths) - 3  # with padding and the box
    total = len(run.suspects)
    title = f"the {len(lines)} worst of {total:,} suspects" if total > WORST else "suspects"
    table = compact_table(title)
    table.add_column(heading[0], justify="left" if named else "right", no_wrap=True)
    table.add_column(heading[1], justify="right", no_wrap=True)
    table.add_column(heading[2], no_wrap=True)
    table.add_column("image" if run.image_column else "text", no_wrap=True)
    for *first, content in rows:
        table.add_row(*first, fitted(content, max(room, 8)))
    return table


def next_commands(run: FinishedRun) -> list[str]:
    """What to type next, a line each."""
    directory = shlex.quote(str(run.directory))
    commands = []
    if run.suspects:
        commands.append(f"sama review {directory}")
        commands.append(f"sama label {directory} --budget 50")
        commands.append(f"sama inspect {directory} --row {run.suspects[0]['index']}")
    test = str(run.recipe.get("data", {}).get("test") or "")
    measured = f" --test {shlex.quote(test)}" if Path(test).is_file() else ""
    commands.append(f"sama train {directory}/dataset{measured} --output {directory}-final")
    report = run.directory / "report.html"
    first = [f"look at it: {report}"] if report.is_file() else []
    return [*first, *(f"next: {command}" for command in commands)]


def _probability(text: str | None) -> str:
    return f"{float(text):.2f}" if text else "–"


def _content(run: FinishedRun, line: dict[str, Any]) -> str:
    if run.image_column:
        return Path(line.get("image") or "").name
    return " / ".join(line[name] for name in run.text_columns if line.get(name))
