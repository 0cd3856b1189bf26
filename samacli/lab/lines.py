"""Measurements of which each is a line of a file, so that a run that was cut off goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def measured(
    file: Path, wanted: Iterable[tuple[str, int, Callable[[int], Row]]], seconds: float
) -> list[Row]:
    """The file's lines, and those of `wanted` that it lacks, as far as there are `seconds` to begin
    them in; by kind and number.

    wanted: a kind, a number, and what measures it, given the number.
    """
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    rows = [json.loads(line) for line in lines]
    there = {(row["of"], row["number"]) for row in rows}
    began = time.perf_counter()
    for of, number, measure in wanted:
        if (of, number) in there or time.perf_counter() - began > seconds:
            continue
        rows.append({"of": of, "number": number, **measure(number)})
        with file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(rows[-1]) + "\n")
    return sorted(rows, key=lambda row: (row["of"], row["number"]))
