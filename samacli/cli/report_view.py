"""What `sama inspect` and `sama compare` show."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from samacli.export.escape import one_line, printable
from samacli.report.compare import Comparison
from samacli.report.inspect import Inspected
from samacli.report.numbers import duration, size, with_spread

_TEXT = 600  # characters of an example


def inspected_table(found: Inspected) -> Table:
    """A row's evidence, line by line."""
    table = _table(f"row {found.row}")
    table.show_header = False
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")

    def add(name: str, value: str | None) -> None:
        if value:
            table.add_row(name, _plain(value))

    def figure(name: str, value: float | None, unit: str = "") -> None:
        add(name, None if value is None else f"{value:.4f}{unit}")

    add("text", found.text if len(found.text) <= _TEXT else f"{found.text[:_TEXT]}…")
    add("given label", found.given or "none")
    add("predicted", found.predicted)
    add("suggested", found.suggested)
    figure("P(label is wrong)", found.mislabelled)
    figure("loss", found.loss, " nats")
    figure("uncertainty", found.uncertainty, " nats")
    if found.score is not None:
        figure("weight", found.weight)
    value = found.weight if found.score is None else found.score
    place = f"{value:.4f}, rank {found.rank:,} of {found.ranked:,}"
    if found.rank_in_class is not None:
        place += f", {found.rank_in_class:,} of {found.ranked_in_class:,} with its label"
    add(_measure(found), place)
    add("made from", ", ".join(found.features))
    for i, reason in enumerate(found.reasons):
        add("why" if i == 0 else "", reason)
    return table


def neighbours_table(found: Inspected) -> Table:
    """The rows whose weight is closest."""
    table = _table(f"nearest in {_measure(found)}")
    for name in ("row", _measure(found)):
        table.add_column(name, justify="right")
    for name in ("given", "suggested", "text"):
        table.add_column(name, overflow="fold")
    for row in found.nearest:
        told = (_plain(one_line(text or "")) for text in (row.given, row.suggested, row.text))
        table.add_row(str(row.row), f"{row.value:.4f}", *told)
    return table


def comparison_table(found: Comparison) -> Table:
    """Runs side by side; accuracies are mean ± standard deviation over the seeds."""
    runs = found.runs
    table = _table("runs side by side")
    table.add_column("", no_wrap=True)
    for run in runs:
        table.add_column(_plain(run.directory), overflow="fold")

    def add(name: str, values: Sequence[str]) -> None:
        if any(value not in ("", "–") for value in values):
            table.add_row(name, *map(_plain, values))

    add("command", [f"sama {run.workflow}" for run in runs])
    add("seeds", [", ".join(map(str, run.seeds)) for run in runs])
    add("accuracy", [with_spread(run.accuracy) for run in runs])
    add("macro-F1", [with_spread(run.macro_f1) for run in runs])
    add(
        "best beside it",
        [
            "–" if r.best_rival is None else f"{r.best_rival} {with_spread(r.rival_accuracy)}"
            for r in runs
        ],
    )
    add("wrong labels found (AP)", [_figure(run.average_precision) for run in runs])
    add("AUROC", [_figure(run.auroc) for run in runs])
    add("time", ["–" if run.seconds is None else duration(run.seconds) for run in runs])
    memory = [run.peak_memory_bytes for run in runs]
    add("peak memory", ["–" if peak is None else size(peak) for peak in memory])
    return table


def differences_table(found: Comparison) -> Table | None:
    """Recipe values that are not the same in all runs; None where all are."""
    if not found.differences:
        return None
    table = _table("where the recipes differ")
    table.add_column("key", overflow="fold")
    for run in found.runs:
        table.add_column(_plain(run.directory), overflow="fold")
    for key, values in found.differences.items():
        table.add_row(_plain(key), *(_plain(_value(value)) for value in values))
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _plain(text: str) -> Text:
    """Text from the data: no markup, no control characters."""
    return Text(printable(text))


def _measure(found: Inspected) -> str:
    return "weight" if found.score is None else "score"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)
