"""Selects from many synthetic scores by `sama select`, and measures time and peak memory.

Scores are made in Parquet shards of a million rows: gamma-distributed float32, which repeats
values, so that ties matter, one in a thousand missing (NaN), and 100 classes of unequal sizes.
What was kept is compared, row by row, with a selection found another way: by counting float32 bit
patterns, first their upper 16 bits and then the lower 16 of those that the cut lies in.

Usage: large_selection.py [--rows 100_000_000] [--memory 1024] [--report FILE.md]
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from samacli.pruning.selection import class_quotas

SHARD_ROWS = 1_000_000
CLASSES = 100
KEEP = 0.3


def make_shard(number: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """(scores float32, classes int) of a shard, drawn again alike whenever they are needed."""
    generator = np.random.default_rng([0, number])
    scores = generator.gamma(2.0, 0.2, rows).astype(np.float32)
    scores[generator.random(rows) < 0.001] = np.nan
    return scores, (CLASSES * generator.random(rows) ** 2).astype(np.int64)


def shards(rows: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for number, start in enumerate(range(0, rows, SHARD_ROWS)):
        yield number, *make_shard(number, min(SHARD_ROWS, rows - start))


def write_shards(folder: Path, rows: int) -> None:
    names = pa.array([f"class_{i:03d}" for i in range(CLASSES)])
    for number, scores, classes in shards(rows):
        labels = pa.DictionaryArray.from_arrays(pa.array(classes, pa.int32()), names)
        table = pa.table({"el2n": scores, "given_label": labels})
        pq.write_table(table, folder / f"scores-{number:06d}.parquet")


@dataclass
class Measured:
    seconds: float
    peak_bytes: int


def run_measured(command: list[str]) -> Measured:
    """A command in a process of its own: its wall-clock time, and its peak resident memory."""
    started = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return Measured(time.perf_counter() - started, usage.ru_maxrss * unit)


def ordered_bits(scores: np.ndarray) -> np.ndarray:
    """uint32, in the order of the float32 scores, highest first; 2³² − 1 for NaN."""
    bits = (scores + np.float32(0)).view(np.uint32)  # −0 becomes 0
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return np.where(np.isnan(scores), np.uint32(0xFFFFFFFF), ~rising)


def last_kept(rows: int, by_class: bool) -> tuple[np.ndarray, np.ndarray]:
    """Of each class (or of all as one): the bits of the last kept score, and how many rows with
    just these bits are kept."""
    groups = CLASSES if by_class else 1

    def group(classes: np.ndarray) -> np.ndarray:
        return classes if by_class else np.zeros_like(classes)

    upper = np.zeros((groups, 1 << 16), dtype=np.int64)
    for _, scores, classes in shards(rows):
        places = (group(classes) << 16) + (ordered_bits(scores) >> 16)
        upper += np.bincount(places, minlength=upper.size).reshape(upper.shape)
    quotas = class_quotas(upper.sum(1), round(KEEP * rows))
    high = (np.cumsum(upper, 1) < quotas[:, None]).sum(1)
    before = np.array([upper[g, : high[g]].sum() for g in range(groups)])

    lower = np.zeros_like(upper)
    for _, scores, classes in shards(rows):
        bits, own = ordered_bits(scores), group(classes)
        at_cut = bits >> 16 == high[own]
        places = (own[at_cut] << 16) + (bits[at_cut] & 0xFFFF)
        lower += np.bincount(places, minlength=lower.size).reshape(lower.shape)
    left = quotas - before
    low = (np.cumsum(lower, 1) < left[:, None]).sum(1)
    ties = left - np.array([lower[g, : low[g]].sum() for g in range(groups)])
    return (high << 16) + low, ties


def count_wrong(keep: Path, rows: int, by_class: bool) -> int:
    """Rows that are listed and should not be, or the other way round."""
    cut, ties = last_kept(rows, by_class)
    seen = np.zeros_like(ties)
    wrong = 0
    with keep.open() as file:
        following = next(file, "")
        for number, scores, classes in shards(rows):
            own = classes if by_class else np.zeros_like(classes)
            bits = ordered_bits(scores).astype(np.int64)
            expected = bits < cut[own]
            for place in np.flatnonzero(bits == cut[own]):  # in the order of the rows
                expected[place] = seen[own[place]] < ties[own[place]]
                seen[own[place]] += 1
            start, listed = number * SHARD_ROWS, []
            while following and int(following) < start + len(scores):
                listed.append(int(following) - start)
                following = next(file, "")
            found = np.zeros(len(scores), dtype=bool)
            found[listed] = True
            # A row that stands twice, or before its shard, shows in the number of lines.
            wrong += int((found != expected).sum()) + len(listed) - int(found.sum())
    return wrong + bool(following)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--memory", type=int, default=1024, help="of sama select, in MB")
    parser.add_argument("--report", type=Path, help="Markdown file for the table")
    parser.add_argument("--folder", type=Path, help="where the scores lie meanwhile")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="large-selection-", dir=options.folder))
    try:
        (folder / "scores").mkdir()
        write_shards(folder / "scores", options.rows)
        lines = []
        for name, extra in (("highest", []), ("by class", ["--by-class", "given_label"])):
            out = folder / "out"
            command = [
                sys.executable, "-m", "samacli", "--quiet", "select", str(folder / "scores"),
                "--score", "el2n", "--keep", str(KEEP), "--memory", str(options.memory), *extra,
                "--output", str(out), "--overwrite",
            ]  # fmt: skip
            measured = run_measured(command)
            wrong = count_wrong(out / "keep.txt", options.rows, bool(extra))
            lines.append(
                f"| {name} | {options.rows:,} | {measured.seconds:,.0f} | "
                f"{measured.peak_bytes / 1e9:.2f} | {wrong:,} |"
            )
            print(lines[-1], flush=True)
    finally:
        shutil.rmtree(folder)
    text = report(lines, options.memory)
    if options.report is None:
        print(text)
    else:
        options.report.write_text(text, encoding="utf-8")


def report(lines: list[str], memory: int) -> str:
    load = os.getloadavg()[2] if hasattr(os, "getloadavg") else float("nan")
    table = "\n".join(lines)
    return f"""# Selection from very many scores

`sama select SCORES --score el2n --keep {KEEP} --memory {memory}`, and the same with `--by-class
given_label` (100 classes), on synthetic scores in Parquet files of a million rows. Made by
`docs/benchmarks/large_selection.py`, which also found the rows to keep another way, by counting bit
patterns, and compared them one by one: "wrong rows" is how many differ.

| selection | rows | seconds | peak memory (GB) | wrong rows |
| --- | ---: | ---: | ---: | ---: |
{table}

Peak memory is the resident memory of the whole process, Python and its libraries included, as the
kernel counts it. {datetime.date.today()}, {platform.system()} {platform.machine()},
{os.cpu_count()} cores, DuckDB {version("duckdb")}, pyarrow {version("pyarrow")}. Other work ran on
these cores meanwhile (load average {load:.0f} over 15 minutes), so the seconds are an upper bound.
"""


if __name__ == "__main__":
    main()
