"""docs/benchmarks/gpu.md from the rows. No figure is typed in here.

Usage: page.py; reads rows/*.jsonl beside this file, writes ../gpu.md.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.with_suffix(".md")
ROWS = HERE / "rows"
KEEPS = ("0.7", "0.5", "0.3")
NONE_YET = (
    "Nothing has been measured on a GPU yet: none could be had. The pack lies ready, and "
    "[its calls](gpu/README.md) fill this page."
)
# The goals of the rows, as the issues have them.
SCORING_GOAL = 1.5


def read(folder: Path) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    """The attempts, and the rows of each table by its name."""
    tables = {file.stem: _lines(file) for file in sorted(folder.glob("*.jsonl"))}
    return tables.pop("rows", []), tables


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def page(attempts: list[dict[str, Any]], tables: dict[str, list[dict[str, Any]]]) -> str:
    lines = ["# On a GPU", ""]
    if not attempts:
        return "\n".join([*lines, NONE_YET, ""])
    lines += ["Made of the rows in `gpu/rows` by `page.py`; [how](gpu/README.md).", ""]
    lines += _runs(attempts)
    lines += _bench([row for attempt in attempts for row in attempt.get("rows", ())])
    lines += _scoring(tables.get("pruning", []))
    lines += _pruning(tables.get("pruning", []))
    for name, title in (("long-tail", "Long-tailed CIFAR-10"), ("text", "Weakly labelled text")):
        lines += _methods(title, tables.get(name, []))
    return "\n".join(lines)


def _runs(attempts: list[dict[str, Any]]) -> list[str]:
    def outcome(row: dict[str, Any]) -> str:
        if row["kind"] != "tests" or "tests" not in row:
            return str(row["outcome"])
        good = row["tests"] - row["failures"] - row["errors"] - row["skipped"]
        names = "".join(f"; {name}" for name in row["failed"])
        return f"{good} of {row['tests']} passed, {row['skipped']} skipped{names}"

    head = ["item", "outcome", "seconds", "device", "torch", "transformers", "commit", "when"]
    return [
        "## What was run",
        "",
        *table(
            head,
            (
                [
                    row["item"], outcome(row), f"{row['seconds']:.0f}", row["device_name"],
                    str(row["torch"]), str(row["transformers"]), str(row["commit"]),
                    row["finished"],
                ]
                for row in attempts
            ),
        ),
    ]  # fmt: skip


def _bench(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    head = ["model", "unroll", "estimator", "samples/s", "relative", "peak MiB", "relative memory"]

    def cells(row: dict[str, Any]) -> list[str]:
        first = [row["model"], str(row["unroll"]), row["estimator"]]
        if row["error"]:
            return [*first, row["error"], "", "", ""]
        return [
            *first, f"{row['samples_per_second']:,.0f}", f"{row['relative_throughput']:.2f}",
            f"{row['peak_memory_bytes'] / 2**20:,.0f}", f"{row['relative_memory']:.2f}",
        ]  # fmt: skip

    size = f"{rows[0]['batch_size']} × {rows[0]['sequence_length']} tokens, {rows[0]['precision']}"
    return [
        f"## Throughput and memory beside plain training: {size}",
        "",
        *table(head, map(cells, rows)),
    ]


def _by(rows: Iterable[dict[str, Any]], *names: str) -> dict[tuple[Any, ...], list[Any]]:
    found: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def _scoring(rows: list[dict[str, Any]]) -> list[str]:
    """Scoring runs over one plain run of the same seed on the same machine."""
    lines = []
    for (setting, seed, device), some in _by(rows, "setting", "seed", "device_name").items():
        plain = next((row for row in some if row["algorithm"] == "full"), None)
        for row in some:
            if plain is None or not row["algorithm"].endswith("-scores"):
                continue
            time = row["wall_seconds"] / plain["wall_seconds"]
            memory = row["peak_memory_bytes"] / plain["peak_memory_bytes"]
            parts = ", ".join(f"{k} {v:.0f} s" for k, v in (row["parts"] or {}).items())
            lines.append(
                [setting, str(seed), device, row["method"], f"{row['wall_seconds']:.0f}",
                 f"{time:.2f}", f"{memory:.2f}", parts]
            )  # fmt: skip
    if not lines:
        return []
    head = ["labels", "seed", "device", "scores", "seconds", "of a plain run", "memory", "parts"]
    return [f"## What scores cost (goal: {SCORING_GOAL} plain runs)", "", *table(head, lines)]


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


def _pruning(rows: list[dict[str, Any]]) -> list[str]:
    """Accuracy after retraining: a line a score, a column a keep."""
    lines = []
    for (setting,), some in _by(rows, "setting").items():
        full = [row["accuracy"] for row in some if row["algorithm"] == "full"]
        if full:
            lines.append([setting, "full", *[""] * len(KEEPS), _spread(full), str(len(full))])
        for (method,), own in _by(some, "algorithm").items():
            by_keep = {
                keep: [r["accuracy"] for r in own if r["method"].endswith(f"-{keep}")]
                for keep in KEEPS
            }
            if any(by_keep.values()):
                seeds = str(max(map(len, by_keep.values())))
                lines.append([setting, method, *map(_spread, by_keep.values()), "", seeds])
    if not lines:
        return []
    head = ["labels", "score", *(f"keep {keep}" for keep in KEEPS), "all", "seeds"]
    return ["## CIFAR-10, ResNet-18, retrained on a part", "", *table(head, lines)]


def _methods(title: str, rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = [
        [setting, method, _spread([row["accuracy"] for row in own]),
         _spread([row["macro_f1"] for row in own]),
         f"{statistics.fmean(row['seconds'] for row in own):.0f}", str(len(own))]
        for (setting, method), own in _by(rows, "setting", "method").items()
    ]  # fmt: skip
    head = ["setting", "method", "accuracy", "macro-F1", "seconds", "seeds"]
    return [f"## {title}", "", *table(head, lines)]


def main() -> None:
    PAGE.write_text(page(*read(ROWS)), encoding="utf-8")


if __name__ == "__main__":
    main()
