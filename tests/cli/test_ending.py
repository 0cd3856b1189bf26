"""What a run ends with, on terminals of any width and alphabet."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from samacli.cli import console, ending, tables
from samacli.cli.console import fitted, say, wrapped
from samacli.export.results import Results
from samacli.report.finished import FinishedRun
from samacli.report.verdict import verdict
from tests.report.runs import method, write_run


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """stdout as a terminal of that width and encoding; returns a function that reads it."""

    def make(width: int = 80, encoding: str = "utf-8") -> Any:
        written = io.BytesIO()
        file = io.TextIOWrapper(written, encoding=encoding, errors="strict", write_through=True)
        shown = Console(file=file, width=width, color_system=None)
        for module in (console, ending, tables):
            monkeypatch.setattr(module, "stdout", shown)
        return lambda: written.getvalue().decode(encoding)

    return make


def tell(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    methods = {name: Results.from_dict(values) for name, values in metrics["methods"].items()}
    parts = ending.ending(run, [tables.methods_table("test results", methods)], "dataset/, model/")
    say(*parts)


NOISE = {
    "noise_detection": {
        "noise_rate": [0.4] * 3, "average_precision": [0.97, 0.98, 0.99], "auroc": [0.9] * 3,
    }
}  # fmt: skip
METHODS = {
    "noisy": method(0.7, 0.72, 0.71),
    "noisy-then-clean": method(0.8, 0.82, 0.81),
    "sama": method(0.9, 0.91, 0.92, **NOISE),
}


@pytest.mark.parametrize(("width", "encoding"), [(80, "utf-8"), (80, "ascii"), (200, "utf-8")])
@pytest.mark.parametrize("classes", [("sport", "money", "film"), ("体育", "a" * 70, "Zürich")])
def test_the_end_fits_the_terminal(
    terminal: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, encoding: str,
    classes: tuple[str, ...],
) -> None:  # fmt: skip
    read = terminal(width, encoding)
    monkeypatch.chdir(tmp_path)
    texts = ["A long text, ± 3 “words” … " * 9, "一些中文字" * 30, "short\nand \x1b[2J two lines"]
    run = write_run(Path("run"), classes=classes, texts=texts, methods=METHODS)
    tell(run)
    shown = read()
    lines = shown.splitlines()
    assert max(console.cell_len(line) for line in lines) <= width, shown
    assert "\x1b" not in shown
    plain = " ".join(shown.split())
    found = verdict(FinishedRun.read(run))
    for sentence in (found.headline, *found.points):
        assert console.spelt(sentence) in plain, sentence
    assert "sama" in shown
    assert "the 10 worst of 20 suspects" in shown
    (start,) = (i for i, line in enumerate(lines) if "score for wrong" in line)
    with (run / "suspects.csv").open(newline="") as file:
        worst = list(csv.DictReader(file))[:10]
    assert [line.split()[0] for line in lines[start + 2 : start + 12]] == [
        row["index"] for row in worst
    ]
    assert f"sama train {run}/dataset" in plain
    assert f"sama inspect {run} --row {worst[0]['index']}" in plain


def test_images_go_by_their_names_and_unknown_probabilities_by_a_dash(
    terminal: Any, tmp_path: Path
) -> None:
    read = terminal()
    tell(write_run(tmp_path / "run", workflow="prune", images=True, methods={}))
    rows = [line for line in read().splitlines() if ".png" in line]
    assert len(rows) == 10
    for line in rows:
        assert line.split()[1] == "–"
        assert line.split()[-1].endswith(".png")
        assert "/" not in line.split()[-1]


def test_rows_go_by_their_ids(terminal: Any, tmp_path: Path) -> None:
    read = terminal()
    run = write_run(tmp_path / "run")
    text = (run / "suspects.csv").read_text().splitlines()
    lines = [f"id,{text[0]}", *(f"q-{i},{line}" for i, line in enumerate(text[1:]))]
    (run / "suspects.csv").write_text("\n".join(lines))
    tell(run)
    assert "q-0 " in read()


def test_what_a_narrow_terminal_has_no_room_for(terminal: Any) -> None:
    methods = {name: Results.from_dict(values) for name, values in METHODS.items()}
    less = ["rows seen", "macro-F1", "seconds"]
    for width, left_out in ((120, less[:0]), (90, less[:1]), (80, less[:2]), (66, less)):
        read = terminal(width)
        say(tables.methods_table("results", methods))
        shown = read()
        for name in ("accuracy", "noise AP", "AUROC", *less):
            assert (name in shown) == (name not in left_out), (width, name, shown)


def test_cells_and_sentences(terminal: Any) -> None:
    terminal(20)
    assert fitted("短い文です", 7) == "短い文…"
    assert fitted("as it is", 8) == "as it is"
    assert wrapped("one two three four five six", "  ") == "one two three four\n  five six"
    terminal(20, "ascii")
    assert fitted("abcdefghij", 8) == "abcde..."
    assert fitted("a → b", 9) == "a -> b"
