"""Measure on a GPU that is there for a few minutes: a list in order of worth, until time is up.

Each item is one command (tests, `sama bench`, `sama table`) with an estimate of its seconds. What
was measured is kept at once in the folder of rows, and a later call goes on where this one stopped.
See README.md beside this file for the calls; page.py makes ../gpu.md of the rows.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PACK = ROOT / "build" / "gpu"  # what pack.py made, and what travelled
ROWS = HERE / "rows"
TABLES = ("pruning", "long-tail", "text")
GRACE_SECONDS = 8.0  # from the request to stop until the end
START_SECONDS = 15.0  # of a table's processes, the data and CUDA: no run is finished before
DRAWN = (".md", ".csv", ".png")  # `sama table` makes these of the rows; here page.py does


@dataclass(frozen=True)
class Item:
    """A line of the list.

    seconds: of one H100, estimated (README.md says how). needs: folders of the pack without which
    it is passed over. least: seconds with which it is worth a start, since a table keeps every run
    that is finished; None: all of them. once: what this item alone stands for in a rehearsal.
    """

    name: str
    kind: Literal["tests", "bench", "table"]
    arguments: tuple[str, ...]
    seconds: float
    about: str
    needs: tuple[str, ...] = ()
    least: float | None = None
    once: bool = False


def _bench(model: str, unroll: int, seconds: float, *, once: bool = False) -> Item:
    return Item(
        f"bench-{model}-unroll{unroll}",
        "bench",
        ("--model", model, "--unroll", str(unroll), "--batch-size", "32", "--sequence-length",
         "128", "--precision", "bf16", "--rounds", "3", "--steps", "20", "--in-process"),
        seconds,
        f"{model}, 32 × 128 tokens, unroll {unroll}: throughput and memory beside plain",
        once=once,
    )  # fmt: skip


def _table(
    name: str, table: str, only: str, methods: str, seeds: str, jobs: int, seconds: float,
    about: str, needs: tuple[str, ...], *, once: bool = False,
) -> Item:  # fmt: skip
    arguments = (table, "--only", only, "--methods", methods, "--seeds", seeds, "--jobs", str(jobs))
    least = min(seconds, START_SECONDS + (seconds - START_SECONDS) / 3)
    return Item(name, "table", arguments, seconds, about, needs, least, once)


IMAGES, TEXT = ("data/cifar10",), ("data/trec", "data/chemprot", "minilm")
PRUNED = "sama-{0},random-{0},aum-{0},el2n-{0}"
TAIL = "noisy,sama-weights,sama,mixed,noisy-then-clean"
WEAK = "noisy,sama,sama-r,clean,noisy-then-clean"


def items() -> list[Item]:
    """The list, the most worth knowing first."""
    found = [
        Item(
            "tests",
            "tests",
            ("tests/cuda",),
            60,
            "exactness, optimisers, out of memory, checkpoints, synchronisation",
            once=True,
        ),
        _bench("bert-base", 1, 45, once=True),
        _bench("bert-base", 10, 35),
    ]
    for number, setting in enumerate(("noise", "people")):
        found += [
            _table(
                f"pruning-{setting}-scores", "pruning", setting, "full,rival-scores,sama-scores",
                "1", 1, 130, "CIFAR-10, ResNet-18: what all scores cost beside one plain run",
                IMAGES, once=number == 0,
            ),
            *(
                _table(
                    f"pruning-{setting}-{keep}", "pruning", setting, PRUNED.format(keep), "1", 2,
                    80, f"CIFAR-10, ResNet-18: retrained on {keep} of the rows by four scores",
                    IMAGES,
                )
                for keep in (0.3, 0.5, 0.7)
            ),
        ]  # fmt: skip
        if number == 0:
            found.append(
                _table(
                    "long-tail-half", "long-tail", "half", TAIL, "1", 5, 190,
                    "long-tailed CIFAR-10, ResNet-32, half of the published length", IMAGES,
                    once=True,
                )
            )  # fmt: skip
    found += [_bench("bert-large", 1, 80), _bench("bert-large", 10, 60)]
    for seed in (1, 2, 3):
        found += [
            _table(
                f"text-few-{seed}", "text", "trec-10,chemprot-10", WEAK, str(seed), 6, 150,
                "TREC and ChemProt whole, MiniLM unfrozen, 10 clean rows a class", TEXT,
                once=seed == 1,
            ),
            _table(
                f"text-{seed}", "text", "trec,chemprot", WEAK, str(seed), 6, 130,
                "the same with every clean row", TEXT,
            ),
        ]  # fmt: skip
    found.append(
        _table(
            "long-tail-whole", "long-tail", "whole", TAIL, "1,2,3", 6, 900,
            "long-tailed CIFAR-10 at the published length, three seeds", IMAGES,
        )
    )  # fmt: skip
    found += [
        _table(
            f"pruning-{setting}-{seed}", "pruning", setting,
            ",".join(["full", "rival-scores", "sama-scores", *map(PRUNED.format, (0.3, 0.5, 0.7))]),
            str(seed), 2, 330, f"CIFAR-10, ResNet-18: everything with seed {seed}", IMAGES,
        )
        for seed in (2, 3)
        for setting in ("noise", "people")
    ]  # fmt: skip
    return found


# The rows


class Rows:
    """The folder of rows: rows.jsonl with a line an attempt, and a results file a table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "rows.jsonl"

    def read(self) -> list[dict[str, Any]]:
        """The attempts so far; a half-written last line is left out."""
        if not self.file.is_file():
            return []
        found = []
        for line in self.file.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break
        return found

    def append(self, row: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def left(self, commit: str | None) -> list[Item]:
        """What is not done, and has not failed already with this very code."""
        attempts = self.read()
        over = {row["item"] for row in attempts if row["outcome"] == "done"}
        over |= {
            row["item"]
            for row in attempts
            if row["outcome"] == "failed" and commit is not None and row["commit"] == commit
        }
        return [item for item in items() if item.name not in over]

    def pace(self) -> float:
        """Seconds that items took over those estimated, the median; 1 where none is done."""
        expected = {item.name: item.seconds for item in items()}
        ratios = [
            row["seconds"] / expected[row["item"]]
            for row in self.read()
            if row["outcome"] == "done" and row["item"] in expected and not row["resumed"]
        ]
        return statistics.median(ratios) if ratios else 1.0


def facts() -> dict[str, Any]:
    """What every row tells of the place and of the code."""
    return {
        "device_name": device_name(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "transformers", "accelerate", "datasets")},
        "commit": commit(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def device_name() -> str:
    """The GPU's name, or the processor's architecture where there is none."""
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        return said.strip().splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return platform.machine()


def commit() -> str | None:
    """The checkout's commit, or the one that pack.py wrote down, where git is missing."""
    try:
        asked = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        note = PACK / "commit.txt"
        return note.read_text().strip() if note.is_file() else None


# The items


@dataclass(frozen=True)
class Place:
    """Where items run: device, the folder of the tables, of the data, and of the rows.

    rehearsal: replaces what the tables and commands say by something small; see rehearsal.py.
    """

    rows: Path
    tables: Path
    data: Path
    device: str = "cuda"
    rehearsal: bool = False


def command(item: Item, place: Place) -> list[str]:
    """What is run, from the root of the checkout."""
    if item.kind == "tests":
        return [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *item.arguments,
            f"--junitxml={_report(item, place)}",
        ]  # fmt: skip
    sama, device = [sys.executable, "-m", "samacli"], ["--device", place.device]
    if item.kind == "bench":
        small = (
            "--model bert-tiny --batch-size 2 --sequence-length 8 --rounds 1 --steps 1 "
            "--precision fp32 --in-process"
        )
        arguments = small.split() if place.rehearsal else item.arguments
        return [*sama, "bench", *arguments, *device, "--json", str(_report(item, place))]
    table, *others = item.arguments
    if place.rehearsal:
        others = ["--jobs", "1", "--threads", "1"]
    described = str(place.tables / f"{table}.yaml")
    return [
        *sama, "table", described, *others, *device, "--data", str(place.data),
        "--output", str(place.rows),
    ]  # fmt: skip


def _report(item: Item, place: Place) -> Path:
    return place.rows / f"{item.name}.{'xml' if item.kind == 'tests' else 'json'}"


def found(item: Item, place: Place, log: str) -> dict[str, Any]:
    """What an item has to say beside its outcome; its own report is taken into the row."""
    report = _report(item, place)
    if item.kind == "table":
        for suffix in DRAWN:
            (place.rows / f"{item.arguments[0]}{suffix}").unlink(missing_ok=True)
        return {"table": item.arguments[0]}
    if not report.is_file():
        return {}
    text = report.read_text(encoding="utf-8")
    report.unlink()
    if item.kind == "bench":
        return {"rows": json.loads(text)}
    suite = next(ElementTree.fromstring(text).iter("testsuite"))
    counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = re.findall(r"(?m)^(?:FAILED|ERROR) (.+)$", log)
    return {**counts, "failed": failed}


def run_item(item: Item, place: Place, seconds: float) -> tuple[str, dict[str, Any], float]:
    """(outcome, what it found, seconds taken); the item is stopped after `seconds`.

    Outcomes: done, failed (with its last words), cut off.
    """
    place.rows.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    log = place.rows / f"{item.name}.log"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    )
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command(item, place), cwd=ROOT, env=environment, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    said = log.read_text(encoding="utf-8", errors="replace")
    log.unlink()
    values = found(item, place, said)
    outcome = "cut off" if code is None else "done" if code == 0 else "failed"
    if outcome == "failed":
        values["last_words"] = said[-1500:]
    return outcome, values, time.monotonic() - started


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, so that what is finished is kept; then make it."""
    for sign in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, sign)
            process.wait(GRACE_SECONDS)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


# The list, worked through


def fitting(left: Sequence[Item], seconds: float, pace: float) -> Iterator[tuple[Item, float]]:
    """Of a list, what would be run in so many seconds, each with the time it would be given."""
    for item in left:
        expected = item.seconds * pace
        if (item.least or item.seconds) * pace > seconds:
            continue
        given = min(expected, seconds)
        seconds -= given
        yield item, given


def missing(item: Item) -> list[str]:
    """Folders of the pack that it needs and that are not here."""
    return [name for name in item.needs if not (PACK / name).is_dir()]


def listing(rows: Rows, seconds: float) -> str:
    """Every item with its estimate, its state, and what of it fits."""
    pace = rows.pace()
    left = rows.left(commit())
    here = [item for item in left if not missing(item)]
    lines = [f"{'item':24} {'seconds':>8}  {'state':44} what"]
    for scope, some in (("all that is left", left), ("what has its data here", here)):
        fits = [item.name for item, _ in fitting(some, seconds, pace)]
        lines.append(f"# {seconds:.0f} s fit, of {scope}: {', '.join(fits) or 'nothing'}")
    for item in items():
        absent = missing(item)
        state = "done" if item not in left else f"needs {', '.join(absent)}" if absent else "ready"
        lines.append(f"{item.name:24} {item.seconds * pace:8.0f}  {state:44} {item.about}")
    total = sum(item.seconds * pace for item in left)
    lines.append(f"{'left in all':24} {total:8.0f}  (pace {pace:.2f} of the estimates)")
    return "\n".join(lines)


def work(rows: Rows, place: Place, chosen: Sequence[Item], seconds: float) -> list[str]:
    """Work through items until the seconds are up; the outcomes."""
    end = time.monotonic() + seconds
    told = facts()
    outcomes = []
    for item in chosen:
        left = end - time.monotonic() - GRACE_SECONDS
        absent = missing(item)
        if absent:
            say(f"{item.name}: passed over, {', '.join(absent)} is not here")
        elif (item.least or item.seconds) * rows.pace() > left:
            say(f"{item.name}: passed over, {left:.0f} s are left")
        else:
            outcomes.append(written_down(rows, item, told, run_item(item, place, left)))
    return outcomes


def rehearse(rows: Rows, place: Place, chosen: Sequence[Item], seconds: float) -> list[str]:
    """Every item, two at a time: here nobody looks at the times."""
    told = facts()
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda item: run_item(item, place, seconds), chosen)
        return [
            written_down(rows, item, told, result)
            for item, result in zip(chosen, results, strict=True)
        ]


def written_down(
    rows: Rows, item: Item, told: dict[str, Any], result: tuple[str, dict[str, Any], float]
) -> str:
    """Append an attempt's row and say what became of it; its outcome."""
    outcome, values, taken = result
    rows.append(
        {
            "item": item.name,
            "kind": item.kind,
            "outcome": outcome,
            "seconds": round(taken, 1),
            "resumed": any(row["item"] == item.name for row in rows.read()),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **told,
            **values,
        }
    )
    said = f": {values['last_words'][-400:]}" if outcome == "failed" else ""
    say(f"{item.name}: {outcome} in {taken:.0f} s{said}")
    return outcome


def say(text: str) -> None:
    print(text, flush=True)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=400.0, help="stop by itself after so many")
    parser.add_argument("--list", action="store_true", help="every item with its estimate")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny, into --rows")
    parser.add_argument("--rows", type=Path, default=None, help=f"folder (default {ROWS})")
    parser.add_argument("--only", default="", help="items by name or its beginning, with commas")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 1 if an item failed."""
    asked = parsed(arguments)
    folder = asked.rows or (PACK / "rehearsal" if asked.rehearse else ROWS)
    rows = Rows(folder)
    if asked.list:
        say(listing(rows, asked.seconds))
        return 0
    starts = tuple(filter(None, asked.only.split(",")))
    chosen = [item for item in rows.left(commit()) if not starts or item.name.startswith(starts)]
    if asked.rehearse:
        sys.path.insert(0, str(HERE))
        import rehearsal

        chosen = [item for item in items() if item.once and (not starts or item in chosen)]
        tables, data = rehearsal.prepare(folder, {name: table(name) for name in TABLES})
        place = Place(folder, tables, data, device="cpu", rehearsal=True)
        outcomes = rehearse(rows, place, chosen, asked.seconds)
    else:
        outcomes = work(rows, Place(folder, described(), PACK / "data"), chosen, asked.seconds)
        say(listing(rows, asked.seconds))
    return 1 if "failed" in outcomes else 0


def table(name: str) -> dict[str, Any]:
    """The description of a table as it lies beside this file."""
    read: dict[str, Any] = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    return read


def described() -> Path:
    """The tables' folder; where the packed model is here, the text table names that one."""
    if not (PACK / "minilm").is_dir():
        return HERE
    folder = PACK / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        content = table(name)
        if name == "text":
            for setting in content["settings"]:
                setting["set"] = [*setting["set"], f"model.name={PACK / 'minilm'}"]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
