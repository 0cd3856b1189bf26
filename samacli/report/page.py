"""`report.html`: one self-contained file, made from a finished run's files alone."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from samacli.export.escape import printable
from samacli.report import figures
from samacli.report.examples import suspicious, valuable
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
    found, scores = trainings(run.metrics), run.scores
    measured = [training for training in found if training.accuracy]
    return {
        "run": run,
        "metrics": run.metrics,
        "title": str(run.recipe.get("description") or f"sama {run.workflow}"),
        "verdict": verdict(run),
        "trainings": found,
        "measured": measured,
        "leads": _leads(run, found),
        "recall": list(measured[0].recall[0]) if measured and measured[0].recall else [],
        "with_noise": any(training.average_precision for training in found),
        "accuracies": figures.accuracies(measured),
        "retained": figures.retained_accuracy(run, found),
        "weight_by_loss": figures.weight_by_loss(run),
        "functions": [  # at five points each
            (name, [(loss[i], weight[i]) for i in _five(len(loss))])
            for name, loss, weight in figures.functions(run)
        ],
        "distribution": figures.weight_distribution(scores),
        "at_most": figures.AT_MOST,
        "confusion": _confusion(scores),
        "learning": figures.learning(run),
        "lists": _lists(run),
    }


def _five(count: int) -> list[int]:
    return [int(i) for i in np.linspace(0, count - 1, 5).round()]


def _lists(run: FinishedRun) -> list[dict[str, Any]]:
    """Lists of examples."""
    suspects, total = suspicious(run), len(run.suspects)
    order = "the most probably wrong first"
    if run.scores.mislabelled is None:
        order = "the lightest first"
    remark = f"{total:,} in suspects.csv, {order}"
    if len(suspects) < total:
        remark += f"; the first {len(suspects):,} are shown"
    return [
        {
            "id": "suspects",
            "title": "Most suspicious examples",
            "remark": f"{remark}.",
            "examples": suspects,
        },
        {
            "id": "valuable",
            "title": "Most valuable examples",
            "remark": f"Those of the highest {run.scores.measure} in each class, "
            "the highest first.",
            "examples": valuable(run),
        },
    ]


def _leads(run: FinishedRun, found: Sequence[Training]) -> dict[str, str]:
    """SAMA's lead over each training at the same keep, in words, by the training's name."""
    leads = {}
    for other in found:
        ours = next((t for t in found if t.ours and (not other.keep or t.keep == other.keep)), None)
        if ours is None or other.ours:
            continue
        lead = ours.lead_over(other, run.rows.get("test", 0))
        if lead is not None:
            leads[other.name] = lead.text + ("" if lead.clear else " (may be chance)")
    return leads


def _confusion(scores: Scores) -> dict[str, Any] | None:
    """Given against suggested labels; None where there are none.

    names: of classes; none where they are too many for a table. rows: by given label; count: by
    given and suggested label. pairs: (given, suggested), the most frequent disagreements first.
    agreed: the share of the rows.
    """
    rows = np.flatnonzero(scores.labelled)
    if not len(rows):
        return None
    given, suggested = (x[rows].astype(str).tolist() for x in (scores.given, scores.suggested))
    names = sorted({*given, *suggested})
    count = Counter(zip(given, suggested, strict=True))
    differ = sorted((-n, pair) for pair, n in count.items() if pair[0] != pair[1])
    return {
        "names": names if len(names) <= _CONFUSION_AT_MOST else [],
        "rows": Counter(given),
        "count": count,
        "pairs": [pair for _, pair in differ[:_PAIRS]],
        "agreed": sum(count[name, name] for name in names) / len(rows),
    }


def _asset(name: str) -> str:
    return (resources.files("samacli.report") / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """For the page's content security policy: this script and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
