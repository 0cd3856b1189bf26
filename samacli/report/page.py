"""`report.html`: one self-contained file, made from a finished run's files alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from samacli.export.escape import printable
from samacli.report import figures
from samacli.report.examples import Example, suspicious, valuable
from samacli.report.finished import FinishedRun, Scores
from samacli.report.numbers import duration, percent, size
from samacli.report.trainings import Training, trainings
from samacli.report.verdict import verdict
from samacli.store.output import written
from samacli.training.spread import mean_and_spread, with_spread

REPORT_FILE = "report.html"
_CONFUSION_AT_MOST = 12  # classes, beyond which pairs are listed
_PAIRS = 20


def build_report(directory: Path) -> Path:
    """Write `DIR/report.html` from the other files of a finished `reweight` or `prune`.

    The same files give the same report. Returns its path.

    Raises:
        SamaError: the directory holds no such run, or a file of it is missing or damaged.
    """
    page = render(FinishedRun.read(directory))
    with written(directory / REPORT_FILE) as file:
        file.write_text(page, encoding="utf-8", errors="replace")
    return directory / REPORT_FILE


def render(run: FinishedRun) -> str:
    """The page as HTML."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Everything that is shown goes through here, text from the data and our own alike.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    environment.filters |= {
        "spread": with_spread,
        "percent": percent,
        "size": size,
        "duration": duration,
        "mean": lambda values: mean_and_spread(values)[0],
    }
    script = _asset("script.js")
    return environment.from_string(_asset("page.html.j2")).render(
        {
            "style": Markup(_asset("style.css")),
            "script": Markup(script),
            "script_hash": _hash(script),
            **_content(run),
        }
    )


def _content(run: FinishedRun) -> dict[str, Any]:
    found = trainings(run.metrics)
    measured = [training for training in found if training.accuracy]
    suspects = suspicious(run)
    best = valuable(run)
    return {
        "run": run,
        "metrics": run.metrics,
        "title": str(run.recipe.get("description") or f"sama {run.workflow}"),
        "verdict": verdict(run),
        "trainings": found,
        "measured": measured,
        "leads": _leads(run, found),
        "recall": _recall(measured),
        "with_noise": any(training.average_precision for training in found),
        "accuracies": _picture(figures.accuracies(measured) if measured else None),
        "retained": _picture(figures.retained_accuracy(run, found)),
        "weight_by_loss": _picture(figures.weight_by_loss(run)),
        "functions": _function_table(run),
        "distribution": _picture(figures.weight_distribution(run.scores)),
        "quartiles": _quartiles(run.scores),
        "left_out": figures.shown_of(run.scores.classes),
        "confusion": _confusion(run.scores),
        "learning": _picture(figures.learning(run)),
        "lists": _lists(run, suspects, best),
    }


@dataclass(frozen=True)
class _List:
    """A list of examples with its filters."""

    id: str
    title: str
    remark: str
    examples: Sequence[Example]

    @property
    def given(self) -> list[str]:
        return sorted({example.given for example in self.examples})

    @property
    def suggested(self) -> list[str]:
        return sorted({example.suggested for example in self.examples})


def _lists(run: FinishedRun, suspects: Sequence[Example], best: Sequence[Example]) -> list[_List]:
    total = len(run.suspects)
    order = "the most probably wrong first"
    if run.scores.mislabelled is None:
        order = "the lightest first"
    remark = f"{total:,} in suspects.csv, {order}"
    if len(suspects) < total:
        remark += f"; the first {len(suspects):,} are shown"
    return [
        _List("suspects", "Most suspicious examples", f"{remark}.", suspects),
        _List(
            "valuable",
            "Most valuable examples",
            f"Those of the highest {run.scores.measure} in each class, the highest first.",
            best,
        ),
    ]


def _leads(run: FinishedRun, found: Iterable[Training]) -> dict[str, str]:
    """SAMA's lead over each training at the same keep, in words, by the training's name."""
    found = list(found)
    leads = {}
    for other in found:
        ours = next((t for t in found if t.ours and (not other.keep or t.keep == other.keep)), None)
        if ours is None or other.ours:
            continue
        lead = ours.lead_over(other, run.rows.get("test", 0))
        if lead is not None:
            leads[other.name] = lead.text + ("" if lead.clear else " (may be chance)")
    return leads


def _recall(measured: Sequence[Training]) -> list[tuple[str, list[str]]]:
    """Each class with its recall in every training."""
    names = list(measured[0].recall[0]) if measured and measured[0].recall else []
    return [
        (name, [with_spread([seed[name] for seed in t.recall if name in seed]) for t in measured])
        for name in names
    ]


def _quartiles(scores: Scores) -> list[tuple[str, int, list[str]]]:
    """Class, rows, and 5 %, 25 %, 50 %, 75 %, 95 % and mean of the weights."""
    lines = []
    for name in scores.classes:
        weights = scores.weight[scores.of_class(name)]
        values = [*np.percentile(weights, [5, 25, 50, 75, 95]), weights.mean()]
        lines.append((name, len(weights), [f"{value:.2f}" for value in values]))
    return lines


def _function_table(run: FinishedRun) -> list[tuple[str, list[tuple[str, str]]]]:
    """Class with (loss, weight) at five points of the learnt function."""
    return [
        (name, [(f"{loss[i]:.2f}", f"{weight[i]:.2f}") for i in _five(len(loss))])
        for name, loss, weight in figures.functions(run)
    ]


def _five(count: int) -> list[int]:
    return [int(i) for i in np.linspace(0, count - 1, 5).round()]


@dataclass(frozen=True)
class _Confusion:
    """Given against suggested labels.

    table: given label with (count, share of its row, whether on the diagonal) for each suggested
    one; empty where there are too many classes. pairs: (given, suggested, count, share of the given
    label's rows), the most frequent disagreements first.
    """

    columns: list[str]
    table: list[tuple[str, list[tuple[int, float, bool]]]]
    pairs: list[tuple[str, str, int, float]]
    agreed: float


def _confusion(scores: Scores) -> _Confusion | None:
    rows = np.flatnonzero(scores.labelled)
    if not len(rows):
        return None
    given = scores.given[rows].astype(str)
    suggested = scores.suggested[rows].astype(str)
    names = sorted({*given.tolist(), *suggested.tolist()})
    place = {name: i for i, name in enumerate(names)}
    codes = np.array(
        [place[a] * len(names) + place[b] for a, b in zip(given, suggested, strict=True)]
    )
    pairs, numbers = np.unique(codes, return_counts=True)
    totals = {name: int((given == name).sum()) for name in names}
    by_pair = {
        (names[code // len(names)], names[code % len(names)]): int(count)
        for code, count in zip(pairs.tolist(), numbers.tolist(), strict=True)
    }
    table = []
    if len(names) <= _CONFUSION_AT_MOST:
        for a in names:
            counts = [by_pair.get((a, b), 0) for b in names]
            cells = [(n, n / max(totals[a], 1), a == b) for n, b in zip(counts, names, strict=True)]
            table.append((a, cells))
    differ = [(a, b, n, n / totals[a]) for (a, b), n in by_pair.items() if a != b]
    return _Confusion(
        columns=names,
        table=table,
        pairs=sorted(differ, key=lambda pair: (-pair[2], pair[:2]))[:_PAIRS],
        agreed=float((given == suggested).mean()),
    )


def _picture(svg: str | None) -> Markup | None:
    """Made by us: text in it is escaped as XML."""
    return None if svg is None else Markup(svg)


def _asset(name: str) -> str:
    return (resources.files("samacli.report") / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """For the page's content security policy: this script and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
