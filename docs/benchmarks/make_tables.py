"""A page and a picture from the rows that `sama bench --json` left. No figure is typed in here.

Usage: make_tables.py FOLDER; reads FOLDER/*.json, writes FOLDER.md and FOLDER.png beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from samacli.lab.bench.plot import plot
from samacli.lab.bench.workload import Measurement

PARTS = ("meta_backward", "adaptation", "derivative", "meta_update")
BIAS = "local_direction.json"


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def throughput(row: dict[str, Any]) -> list[str]:
    processes = f"{row['world_size']} × {row['threads']} threads"
    setting = [row["model"], str(row["unroll"]), processes, row["estimator"]]
    if row["error"]:
        return [*setting, row["error"], "", "", "", ""]
    low, high = row["relative_throughput_quartiles"]
    return [
        *setting,
        f"{row['samples_per_second']:.2f}",
        f"{row['relative_throughput']:.2f}",
        f"{low:.2f}–{high:.2f} ({row['rounds']})",
        f"{row['peak_memory_bytes'] / 2**20:,.0f}",
        f"{row['relative_memory']:.2f}",
    ]


def parts(row: dict[str, Any]) -> list[str]:
    step = row["meta_step"]
    plain = step["base_forward"] + step["base_backward"] + step["optimizer_step"]
    cells = [
        f"{1e3 * step[name]:,.0f} ({step[name] / plain:.0%})" if name in step else ""
        for name in PARTS
    ]
    of_backward = (
        f"{step['adaptation'] / step['base_backward']:.0%}" if "adaptation" in step else ""
    )
    return [
        row["model"], f"{row['estimator']} ({row['form']})", str(row["unroll"]),
        str(row["world_size"]), f"{1e3 * plain:,.0f}", *cells, of_backward,
    ]  # fmt: skip


def page(rows: list[dict[str, Any]], bias: list[dict[str, Any]]) -> list[str]:
    first = rows[0]
    lines = [
        "# Measured",
        "",
        f"{first['device_name']}; torch {first['torch']}, {first['precision']}. Made by "
        "`make benchmarks`; [how it is measured](README.md).",
        "",
        "## Throughput and memory beside plain training",
        "",
    ]
    head = [
        "model",
        "unroll",
        "processes",
        "estimator",
        "samples/s",
        "relative",
        "quartiles (pairs)",
    ]
    for size in sorted({(r["batch_size"], r["sequence_length"]) for r in rows}, reverse=True):
        some = [r for r in rows if (r["batch_size"], r["sequence_length"]) == size]
        lines += [f"Batches of {size[0]} × {size[1]} tokens:", ""]
        lines += table([*head, "peak MiB", "relative"], map(throughput, some))
    lines += ["## A meta step, in ms (share of a base step)", ""]
    head = ["model", "estimator", "unroll", "processes", "base step", "meta backward", "adaptation"]
    lines += table(
        [*head, "derivative", "update of λ", "adaptation / backward"],
        (parts(r) for r in rows if r["meta_step"]),
    )
    compared = [(r, d) for r in rows for d in r["derivatives"] or ()]
    if compared:
        lines += ["## Forms of directional derivative against float64", ""]
        lines += table(
            ["model", "precision", "form", "relative error", "of the whole meta gradient",
             "cost of a meta step apart, plain step = 1"],
            (
                [r["model"], d["precision"], d["form"], number(d["error"]),
                 number(d["meta_gradient_error"]), f"{d['relative_cost']:.2f}"]
                for r, d in compared
            ),
        )  # fmt: skip
    if bias:
        lines += ["## Directions of their own against the mean direction (local_direction.py)", ""]
        lines += table(
            ["replicas", "draws", "relative difference (median)", "cosine (median)",
             "relative difference of the means over all draws"],
            (
                [str(b["replicas"]), str(b["draws"]), f"{b['relative_difference']:.2f}",
                 f"{b['cosine']:.3f}", f"{b['relative_difference_of_means']:.2f}"]
                for b in bias
            ),
        )  # fmt: skip
    return lines


def number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.1e}"


def read(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of all runs in order of size, and those of local_direction.py."""
    files = sorted(file for file in folder.glob("*.json") if file.name != BIAS)
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
    rows.sort(key=lambda r: (r["parameters"] or 0, r["unroll"], r["world_size"]))
    bias = folder / BIAS
    return rows, json.loads(bias.read_text(encoding="utf-8")) if bias.is_file() else []


def main() -> None:
    folder = Path(sys.argv[1])
    rows, bias = read(folder)
    folder.with_suffix(".md").write_text("\n".join(page(rows, bias)), encoding="utf-8")
    # plain training once a setting, not once a run
    seen: set[tuple[Any, ...]] = set()
    drawn = []
    for r in rows:
        key = (r["estimator"], r["model"], r["unroll"], r["world_size"])
        if not (r["derivatives"] or ":" in r["estimator"] or key in seen or r["batch_size"] != 16):
            seen.add(key)
            drawn.append(Measurement(**r))
    plot(drawn, folder.with_suffix(".png"))


if __name__ == "__main__":
    main()
