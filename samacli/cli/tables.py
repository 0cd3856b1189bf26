"""What commands show: tables of results, and sentences about them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from samacli.cli.console import spelt, stdout
from samacli.errors import counted
from samacli.export.escape import one_line
from samacli.report.numbers import duration, size
from samacli.training.spread import mean_and_spread, with_spread

if TYPE_CHECKING:
    from samacli.export.results import Results
    from samacli.report.compare import Comparison
    from samacli.report.inspect import Inspected
    from samacli.runs.why import Other, Why
    from samacli.training.metrics import Evaluation
    from samacli.training.settle import Resolved

_TEXT = 600  # characters of an example
_LABELS = 8  # candidate labels that are shown


# rich's SIMPLE_HEAD in ASCII: a line under the head and nothing else.
_SIMPLE_HEAD = box.Box("    \n    \n -- \n" + "    \n" * 5, ascii=True)


class _Shown(Table):
    """Cells as the terminal can show them, before their widths are counted."""

    def add_row(self, *cells: Any, **settings: Any) -> None:
        super().add_row(*map(_as_shown, cells), **settings)

    def add_column(self, header: Any = "", *more: Any, **settings: Any) -> None:
        super().add_column(_as_shown(header), *more, **settings)


def _as_shown(cell: Any) -> Any:
    return spelt(cell) if isinstance(cell, str) else _plain(cell.plain)


def compact_table(title: str) -> Table:
    lines = _SIMPLE_HEAD if stdout.options.ascii_only else box.SIMPLE_HEAD
    return _Shown(title=title, title_justify="left", box=lines, padding=(0, 1, 0, 0))


# Columns of `methods_table` that go first where the terminal is too narrow.
_LESS = ("rows seen", "macro-F1", "seconds")


def methods_table(title: str, methods: Mapping[str, Results]) -> Table:
    """Test accuracy and macro-F1 of each method: mean ± standard deviation over the seeds.

    And how well its own scores find wrong labels, where any method's are known. What a narrow
    terminal has no room for is in metrics.json.
    """
    columns: dict[str, list[str]] = {
        "accuracy": [with_spread(method.accuracy) for method in methods.values()],
        "macro-F1": [with_spread(method.macro_f1) for method in methods.values()],
    }
    if any(method.noise for method in methods.values()):
        columns["noise AP"] = [with_spread(m.average_precision) for m in methods.values()]
        columns["AUROC"] = [with_spread(method.auroc) for method in methods.values()]
    for name, value in (("seconds", "seconds"), ("rows seen", "rows_seen")):
        means = [mean_and_spread(getattr(method, value))[0] for method in methods.values()]
        columns[name] = ["–" if math.isnan(mean) else f"{mean:,.0f}" for mean in means]
    for left_out in _LESS:
        widths = [max(map(len, (name, *values))) for name, values in columns.items()]
        if sum(widths) + 2 * len(widths) + max(map(len, methods), default=0) + 3 <= stdout.width:
            break
        del columns[left_out]
    table = compact_table(title)
    table.add_column("training", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    for name, *values in zip(methods, *columns.values(), strict=True):
        ours = name.startswith("sama") and "-na" not in name
        table.add_row(name, *values, style="bold" if ours else None)
    return table


def classes_table(evaluation: Evaluation) -> Table:
    """Precision, recall and F1 of each class."""
    table = compact_table("by class")
    table.add_column("class")
    for name in ("precision", "recall", "F1", "examples"):
        table.add_column(name, justify="right")
    for row in evaluation.classes:
        table.add_row(
            _plain(one_line(row.name)),
            f"{row.precision:.3f}",
            f"{row.recall:.3f}",
            f"{row.f1:.3f}",
            f"{row.support:,}",
        )
    return table


def class_rows_table(classes: Mapping[str, Mapping[str, int]]) -> Table:
    """How many rows of each split have each class; the classes in their order."""
    table = compact_table("rows by class")
    table.add_column("class", overflow="fold")
    for split in classes:
        table.add_column(split, justify="right")
    for name in next(iter(classes.values())):
        table.add_row(_plain(one_line(name)), *(f"{rows[name]:,}" for rows in classes.values()))
    table.add_section()
    table.add_row("all", *(f"{sum(rows.values()):,}" for rows in classes.values()))
    return table


def trainings_table(trainings: Mapping[str, int], steps: Mapping[str, int]) -> Table:
    """What would be trained, how often, and for how many steps each time."""
    table = compact_table("what would be trained")
    table.add_column("training")
    for name in ("times", "steps each"):
        table.add_column(name, justify="right")
    for name, times in trainings.items():
        table.add_row(name, f"{times:,}", f"{steps[name]:,}")
    return table


def auto_table(auto: Sequence[Resolved]) -> Table | None:
    """What a recipe's `auto` comes to, and why; None where nothing is."""
    if not auto:
        return None
    table = compact_table("what auto is here")
    for name in ("key", "value", "because"):
        table.add_column(name, overflow="fold")
    for one in auto:
        table.add_row(one.key, _plain(one.text), _plain(one.why))
    return table


def inputs_table(
    texts: Mapping[str, Mapping[str, Any]], images: Mapping[str, Mapping[str, Any]]
) -> Table:
    """How long the texts, or how large the images of each split are."""
    table = compact_table("texts" if texts else "images")
    table.add_column("")
    columns = ("median", "95%", "longest") if texts else ("smallest", "median", "largest")
    limit = next((found["max_length"] for found in texts.values()), None)
    for name in (*columns, f"longer than {limit}" if texts else "different sizes"):
        table.add_column(name, justify="right")
    for split, found in texts.items():
        lengths = [f"{found[name]:,.0f} {found['unit']}" for name in columns]
        table.add_row(split, *lengths, f"{found['longer']:,}")
    for split, found in images.items():
        sizes = [" × ".join(map(str, found[name])) for name in columns]
        table.add_row(split, *sizes, f"{found['different']:,}")
    return table


def rare_class_sentence(
    class_rows: Mapping[str, int], methods: Mapping[str, Results]
) -> str | None:
    """How well the rarest training class is found; None where no class is rare or none is tested.

    Rare: the largest class has ten times as many rows.
    """
    rows = {name: count for name, count in class_rows.items() if count}
    name = min(rows, key=lambda name: rows[name])
    if max(rows.values()) < 10 * rows[name]:
        return None
    found = {
        method: [recall[name] for recall in measured.recall]
        for method, measured in methods.items()
        if measured.recall
    }
    if not found:
        return None
    shares = ", ".join(f"{method} {with_spread(values)}" for method, values in found.items())
    return (
        f"recall of the rarest class, {one_line(name)} ({rows[name]:,} of "
        f"{counted(sum(rows.values()), 'training row')}): {shares}"
    )


def _facts(title: str, found: Inspected | Why) -> tuple[Table, Callable[[str, str | None], None]]:
    """A table of what is known of a row, line by line, begun by what it is; and what adds a line,
    where there is something to say."""
    table = compact_table(title)
    table.show_header = False
    table.add_column("", no_wrap=True)
    table.add_column("", overflow="fold")

    def add(name: str, value: str | None) -> None:
        if value:
            table.add_row(name, _plain(value))

    add("id", found.id)
    add("text", found.text if len(found.text) <= _TEXT else f"{found.text[:_TEXT]}…")
    return table, add


def inspected_table(found: Inspected) -> Table:
    """A row's evidence, line by line."""
    table, add = _facts(f"row {found.row}", found)

    def figure(name: str, value: float | None, unit: str = "") -> None:
        add(name, None if value is None else f"{value:.4f}{unit}")

    add("given label", found.given or "none")
    add("predicted", found.predicted)
    add("suggested", found.suggested)
    wrong = "P(label is wrong)" if found.calibrated else "score for a wrong label"
    figure(wrong, found.mislabelled)
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
    table = compact_table(f"nearest in {_measure(found)}")
    for name in ("row", _measure(found)):
        table.add_column(name, justify="right")
    for name in ("given", "suggested", "text"):
        table.add_column(name, overflow="fold")
    for row in found.nearest:
        told = (_plain(one_line(text or "")) for text in (row.given, row.suggested, row.text))
        table.add_row(str(row.row), f"{row.value:.4f}", *told)
    return table


def why_table(found: Why) -> Table:
    """What a row does to the other side, or that side to it, in all."""
    table, add = _facts(f"{'row' if found.side == 'train' else 'clean row'} {found.row}", found)
    add("given label" if found.side == "train" else "label", found.label or "none")
    add("weight", None if found.weight is None else f"{found.weight:.4f}")
    if found.label is None:
        add("effect", "not known: it has no label")
    else:
        others = found.helped + found.hurt
        of = "on a clean row" if found.side == "train" else "of a training row"
        add(
            f"effect {of}",
            f"{found.effect:+.2e} ± {found.spread:.1e} nats, mean and standard error of "
            f"{others:,}; in a batch of {found.batch:,}",
        )
        verb = ("helps", "hurts") if found.side == "train" else ("helped by", "hurt by")
        add(verb[0], f"{found.helped:,} of {others:,}")
        add(verb[1], f"{found.hurt:,} of {others:,}")
    best = sorted(found.labels.items(), key=lambda item: -item[1])
    for i, (name, effect) in enumerate(best[:_LABELS]):
        given = " (given)" if name == found.label else ""
        add("with the label" if i == 0 else "", f"{effect:+.2e}  {one_line(name, 40)}{given}")
    return table


def others_table(title: str, others: Sequence[Other], measure: str = "nats") -> Table:
    """Rows of the other side, by effect; or those most alike."""
    table = compact_table(title)
    for name in ("row", measure):
        table.add_column(name, justify="right")
    weighed = any(other.weight is not None for other in others)
    if weighed:
        table.add_column("weight", justify="right")
    for name in ("label", "text"):
        table.add_column(name, overflow="fold")
    for other in others:
        value = f"{other.value:.3f}" if measure == "cosine" else f"{other.value:+.2e}"
        weight = [] if not weighed else ["" if other.weight is None else f"{other.weight:.2f}"]
        told = [_plain(one_line(text or "", 60)) for text in (other.label, other.text)]
        table.add_row(str(other.row), value, *weight, *told)
    return table


def comparison_table(found: Comparison) -> Table:
    """Runs side by side; accuracies are mean ± standard deviation over the seeds."""
    runs = found.runs
    table = compact_table("runs side by side")
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
    table = compact_table("where the recipes differ")
    table.add_column("key", overflow="fold")
    for run in found.runs:
        table.add_column(_plain(run.directory), overflow="fold")
    for key, values in found.differences.items():
        table.add_row(_plain(key), *(_plain(_value(value)) for value in values))
    return table


def _plain(text: str) -> Text:
    """Text from the data: no markup, no control characters."""
    return Text(spelt(text))


def _measure(found: Inspected) -> str:
    return "weight" if found.score is None else "score"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)
