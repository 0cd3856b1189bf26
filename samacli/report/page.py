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
from jinja2 import Environment, FunctionLoader, StrictUndefined, Template
from markupsafe import Markup

from samacli.export.escape import printable
from samacli.report import figures
from samacli.report.examples import Example, suspicious, valuable
from samacli.report.finished import FinishedRun, Scores
from samacli.report.numbers import duration, percent, size
from samacli.report.reviewed import download_data, script_data
from samacli.report.trainings import Training, beside, trainings
from samacli.report.verdict import verdict
from samacli.store.output import REVIEWED_FILE, written
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
    return template("page.html.j2").render(_content(run))


def review_page(run: FinishedRun, data: dict[str, Any], file: str, remark: str) -> str:
    """The page of `sama review` as HTML.

    data: what its script is told. file: where decisions are kept. remark: said beside it.
    """
    title = run.directory.resolve().name
    page = template("review_page.html.j2")
    return page.render(title=title, review=script_data(data), file=file, remark=remark)


def review_policy() -> str:
    """That page's content security policy: its own script and style, and this server."""
    found = template("review_page.html.j2").environment.globals
    return (
        f"default-src 'none'; img-src 'self' data:; style-src '{found['style_hash']}'; "
        f"script-src '{found['script_hash']}'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


def template(name: str) -> Template:
    """A page's template; it may include what lies beside this file.

    style, script: of all pages, script_hash and style_hash: for their content security policies.
    """
    environment = Environment(
        loader=FunctionLoader(_asset),
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
    style = _asset("style.css") + _asset("review.css")
    script = _asset("script.js") + _asset("review.js")
    environment.globals |= {
        "style": Markup(style),
        "style_hash": _hash(style),
        "script": Markup(script),
        "script_hash": _hash(script),
    }
    return environment.get_template(name)


def _content(run: FinishedRun) -> dict[str, Any]:
    found, scores = trainings(run.metrics), run.scores
    measured = [training for training in found if training.accuracy]
    shown = suspicious(run)
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
        "calibration": run.metrics.get("calibration") or {},
        "reliability": figures.reliability(run),
        "learning": figures.learning(run),
        "lists": _lists(run, shown),
        "review": _download(run, shown) if shown else None,
    }


def _download(run: FinishedRun, shown: Sequence[Example]) -> Markup:
    """What the script needs for a download of what is decided on the suspects that are shown."""
    data = download_data(run, [bool(one.image) for one in shown])
    file = f"Download {REVIEWED_FILE}; sama {run.workflow} … --meta {REVIEWED_FILE} takes it."
    return script_data({**data, "next": file})


def _five(count: int) -> list[int]:
    return [int(i) for i in np.linspace(0, count - 1, 5).round()]


def _lists(run: FinishedRun, suspects: Sequence[Example]) -> list[dict[str, Any]]:
    """Lists of examples."""
    total = len(run.suspects)
    order = "the most probably wrong first"
    if not run.calibrated:
        order = "the highest score for being wrong first (not calibrated: no probability)"
    if run.scores.mislabelled is None or run.metrics.get("no_probability"):
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
        lead = ours.lead_over(other, run.rows.get("test", 0), len(beside(ours, found)))
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


def _hash(text: str) -> str:
    """For a page's content security policy: this script or style and no other."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
