"""The runs of a table that are left, several at a time, each written down when it is done."""

from __future__ import annotations

import queue
import statistics
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from samacli.errors import SamaError
from samacli.lab.table.plan import Cell, paced
from samacli.lab.table.rows import Ledger, Row, Store
from samacli.lab.table.runner import Options, Runner
from samacli.lab.workers import OUT_OF_MEMORY, Worker, WorkerFailedError, cores
from samacli.progress import Progress, Silent
from samacli.runs.prune.methods import PRUNING_METHODS, plain_runs
from samacli.training.runtime import DeviceName

REASONS_SHOWN = 3


@dataclass(frozen=True)
class Left:
    """Runs to do, in order; outdated: runs whose rows are of an older recipe, not in `runs` unless
    they are to be redone; done: cells that have their row."""

    runs: list[Cell]
    outdated: list[Cell]
    done: int


def left(cells: Sequence[Cell], ledger: Ledger, *, redo_outdated: bool = False) -> Left:
    """What is left of the cells, each run once though several cells may share it."""
    runs: dict[tuple[str, int, str], Cell] = {}
    outdated: dict[tuple[str, int, str], Cell] = {}
    done = 0
    for cell in cells:
        if ledger.row(cell) is not None:
            done += 1
            continue
        if ledger.outdated(cell) is not None:
            outdated.setdefault(cell.run, cell)
        runs.setdefault(cell.run, cell)
    # Cells that share a run may differ in whether an older row is known; the run is one.
    if not redo_outdated:
        runs = {run: cell for run, cell in runs.items() if run not in outdated}
    return Left(list(runs.values()), list(outdated.values()), done)


def seconds(cell: Cell, ledger: Ledger) -> float | None:
    """How long a run is likely to take, by the rows that are there; None where none tells.

    As others of its method did, in its setting before its data set before any, or, where there are
    none of its method, as all. Of subsets: as plain runs in the same setting did, times how many of
    those it is worth.
    """
    if cell.pace is not None:
        return seconds(cell.pace[0], ledger)
    method = cell.entry.method
    own = [row for row in ledger.rows if row.setting == cell.setting.name]
    group = [row for row in ledger.rows if row.group == cell.setting.group]

    def walls(rows: Iterable[Row], methods: Collection[str]) -> list[float]:
        return [row.wall_seconds for row in rows if row.algorithm in methods]

    times = 1.0
    if cell.workflow == "prune":
        times = plain_runs(cell.recipe, method)
        if times > 1 and (same := walls(own, {method})):
            return statistics.fmean(same)
        plain = {name for name in PRUNING_METHODS if plain_runs(cell.recipe, name) == 1}
        choices = [walls(rows, plain) for rows in (own, group)]
    else:
        choices = [walls(rows, {method}) for rows in (own, group, ledger.rows)]
        choices.append([row.wall_seconds for row in ledger.rows])
    found = next(filter(None, choices), None)
    return None if found is None else times * statistics.fmean(found)


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


def options(
    device: DeviceName, jobs: int | None, threads: int | None, *, scores: Path | None = None
) -> Options:
    """How many runs at a time, with how many threads each.

    By default one on a GPU, and on the CPU one for each of up to two cores: a small model does
    more in two processes of one thread than in one of two.
    """
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    jobs = jobs or (1 if on_gpu else min(2, cores()))
    return Options(device, threads or max(1, cores() // jobs), jobs, scores)


class Slot:
    """Runs cells one after another in a worker, in another one if that dies."""

    def __init__(self, options: Options, *, debug: bool, warn: Callable[[str], None]) -> None:
        self._options, self._debug, self._warn = options, debug, warn
        self._worker: Worker | None = None
        self._setting = ""
        self._ended = False
        self._lock = threading.Lock()

    def run(self, cell: Cell) -> Row | str:
        """Do one cell's run; why there is no row, in one sentence, where it failed."""
        self._setting = cell.setting.name
        with self._lock:
            if self._ended:
                return "it was not started"
            if self._worker is None or not self._worker.alive:
                self._worker = Worker(
                    "table",
                    Runner,
                    self._options,
                    threads=self._options.threads,
                    debug=self._debug,
                    warn=lambda message: self._warn(f"{self._setting}: {message}"),
                )
        try:
            row: Row = self._worker.ask("run", cell=cell)[0]
            return row
        except SamaError as error:
            return str(error)
        except WorkerFailedError as error:
            bug = self._worker.alive and error.why != OUT_OF_MEMORY
            return f"{error.why} (a bug; --debug shows where)" if bug else error.why

    def end(self) -> None:
        """Stop the process, whatever it is doing, and start none again."""
        with self._lock:
            self._ended = True
            if self._worker is not None:
                self._worker.end()


class Schedule:
    """Hands out cells to several slots, seed by seed, so that data are read as seldom as can be.

    Safe to use from their threads.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._left = list(cells)
        self._held: dict[int, str] = {}
        self._lock = threading.Lock()

    def next(self, slot: int) -> Cell | None:
        """The slot's next cell, or None at the end.

        Of the first seed that is not through: one of the setting whose data the slot holds, else
        of a setting that no other slot holds, else any.
        """
        with self._lock:
            if not self._left:
                self._held.pop(slot, None)
                return None
            seed = self._left[0].seed
            own = self._held.get(slot)
            others = {name for number, name in self._held.items() if number != slot}
            cell = min(
                (cell for cell in self._left if cell.seed == seed),
                key=lambda cell: (cell.setting.name != own, cell.setting.name in others),
            )
            self._left.remove(cell)
            self._held[slot] = cell.setting.name
            return cell

    def clear(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._left.clear()


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

    Those that take as long as ours come last, when it is known how long that is. A run that fails
    stops no other. start: makes a slot.

    Raises:
        SamaError: a row cannot be written.
    """
    progress, outcome = progress or Silent(), Outcome([], [])
    starting = partial(start, options, debug=debug)

    def do(part: Sequence[Cell]) -> None:
        _run(part, cells, store, ledger, outcome, progress, options.jobs, starting)

    do([cell for cell in cells if cell.pace is None])
    timed = []
    for cell in cells:
        if cell.pace is not None:
            found = _paced(cell, cell.pace, ledger)
            if isinstance(found, str):
                outcome.failed.append((cell, found))
                progress.warn(f"{cell.title} left out: {found}")
            else:
                timed.append(found)
    do(timed)
    return outcome


def _paced(cell: Cell, pace: tuple[Cell, Cell], ledger: Ledger) -> Cell | str:
    """The timed cell with its steps; why that is not known, in one sentence."""
    rows = [ledger.row(one) for one in pace]
    if rows[0] is None or rows[1] is None:
        missing = " and ".join(c.entry.name for c, r in zip(pace, rows, strict=True) if r is None)
        return f"how many steps take as long is not known without the run of {missing}"
    if rows[0].place != rows[1].place:
        return "the runs that tell how many steps take as long are of different machines or jobs"
    # Ours takes as many steps as the recipe says, which its epochs or `auto` alone don't tell.
    return paced(cell, round(rows[0].steps * rows[0].seconds / rows[1].seconds))


def _run(
    cells: Sequence[Cell],
    whole: Sequence[Cell],
    store: Store,
    ledger: Ledger,
    outcome: Outcome,
    progress: Progress,
    jobs: int,
    start: Callable[..., Slot],
) -> None:
    """`run_table` of a part of the whole's cells."""
    warned: set[str] = set()
    results: queue.SimpleQueue[tuple[Cell, Row | str] | str | None] = queue.SimpleQueue()
    schedule = Schedule(cells)
    slots = [start(warn=results.put) for _ in range(min(jobs, len(cells)))]

    def work(number: int) -> None:
        try:
            while (cell := schedule.next(number)) is not None:
                results.put((cell, slots[number].run(cell)))
        finally:
            results.put(None)

    threads = [
        threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(slots))
    ]
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
                        ledger.rows.append(found)
                        outcome.finished.append(found)
                        progress.note(_said(cell, found, whole, outcome, ledger, len(slots)))
                    task.advance()
    finally:
        schedule.clear()
        for slot in slots:
            slot.end()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


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
