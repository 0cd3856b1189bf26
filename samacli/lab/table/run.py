"""The runs of a table, several at a time, each written down when it is done."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from samacli.errors import SamaError
from samacli.lab.table.estimate import seconds
from samacli.lab.table.ledger import Ledger
from samacli.lab.table.plan import Cell
from samacli.lab.table.row import Row
from samacli.lab.table.schedule import Schedule
from samacli.lab.table.slot import RunFailedError, Slot
from samacli.lab.table.store import Store
from samacli.lab.table.task import Options
from samacli.progress import Progress, Silent
from samacli.training.runtime import DeviceName

REASONS_SHOWN = 3


@dataclass(frozen=True)
class Outcome:
    """What became of the runs; failed: each with the reason."""

    finished: list[Row]
    failed: list[tuple[Cell, str]]

    def check(self) -> None:
        """Raises SamaError, one sentence, if a run failed."""
        if not self.failed:
            return
        reasons: dict[str, list[Cell]] = {}
        for cell, reason in self.failed:
            reasons.setdefault(reason, []).append(cell)
        said = [
            f"{cells[0].title}{f' and {len(cells) - 1} more' if len(cells) > 1 else ''}: {reason}"
            for reason, cells in reasons.items()
        ]
        more = f"; and {len(said) - REASONS_SHOWN} more" if len(said) > REASONS_SHOWN else ""
        raise SamaError(
            f"{len(self.failed)} of {len(self.failed) + len(self.finished)} runs failed, and the "
            f"same command tries them again ({'; '.join(said[:REASONS_SHOWN])}{more})"
        )


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def options(
    device: DeviceName, jobs: int | None, threads: int | None, *, scores: Path | None = None
) -> Options:
    """How many runs at a time, with how many threads each.

    By default one on a GPU, and on the CPU one for each of up to two cores: a small model does
    more in two processes of one thread than in one of two.
    """
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    jobs = jobs or (1 if on_gpu else min(2, cores()))
    return Options(
        device=device,
        threads=threads or max(1, cores() // jobs),
        jobs=jobs,
        scores=None if scores is None else str(scores),
    )


def run_table(
    cells: Sequence[Cell],
    store: Store,
    ledger: Ledger,
    *,
    options: Options,
    progress: Progress | None = None,
    debug: bool = False,
    start: Callable[..., Slot] = Slot,
) -> Outcome:
    """Do the runs in that order, adding to the store and the ledger whatever is finished.

    A run that fails stops no other. start: makes a slot.

    Raises:
        SamaError: a row cannot be written.
    """
    progress = progress or Silent()
    warned: set[str] = set()
    results: queue.SimpleQueue[tuple[Cell, Row | str] | str | None] = queue.SimpleQueue()
    schedule = Schedule(cells)
    slots = [
        start(options, debug=debug, warn=results.put) for _ in range(min(options.jobs, len(cells)))
    ]

    def work(number: int) -> None:
        try:
            while (cell := schedule.next(number)) is not None:
                try:
                    results.put((cell, slots[number].run(cell)))
                except RunFailedError as error:
                    results.put((cell, str(error)))
        finally:
            results.put(None)

    threads = [
        threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(slots))
    ]
    outcome = Outcome([], [])
    try:
        for thread in threads:
            thread.start()
        with progress.task("runs", len(cells)) as task:
            working = len(threads)
            while working:
                result = results.get()
                if result is None:
                    working -= 1
                elif isinstance(result, str):
                    if result not in warned:
                        warned.add(result)
                        progress.warn(result)
                else:
                    cell, found = result
                    if isinstance(found, str):
                        outcome.failed.append((cell, found))
                        progress.warn(f"{cell.title} failed: {found}")
                    else:
                        store.append(found, cell.concerning)
                        ledger.add(found)
                        outcome.finished.append(found)
                        progress.note(_said(cell, found, cells, outcome, ledger, len(slots)))
                    task.advance()
    finally:
        schedule.clear()
        for slot in slots:
            slot.end()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    return outcome


def _said(
    cell: Cell, row: Row, cells: Sequence[Cell], outcome: Outcome, ledger: Ledger, jobs: int
) -> str:
    done = len(outcome.finished) + len(outcome.failed)
    through = {(r.algorithm, r.seed, r.digest) for r in outcome.finished}
    through |= {cell.run for cell, _ in outcome.failed}
    ahead = sum(seconds(c, ledger) or 0.0 for c in cells if c.run not in through) / jobs
    accuracy = "" if row.accuracy is None else f"accuracy {row.accuracy:.3f}, "
    return (
        f"{cell.title}: {accuracy}{row.seconds:,.0f} s; {done} of {len(cells)} runs, "
        f"about {duration(ahead)} left"
    )


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:,.1f} h"
