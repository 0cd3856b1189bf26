"""Plain training and each estimator by turns: one pair of chunks a round, never both at once.

Machines drift (other load, temperature) and chunks side by side drift together, so throughput is
compared pair by pair. The order within a pair changes from round to round.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from samacli.errors import SamaError
from samacli.lab.bench.measures import Measured
from samacli.lab.bench.steps import PLAIN, SAMA, Contender
from samacli.lab.bench.workload import Measurement, Workload
from samacli.lab.workers import Here, Worker, WorkerFailedError, processor_name
from samacli.progress import Progress, Silent
from samacli.store.output import check_file, written

CHUNK_SECONDS = 3.0  # of plain training, where the number of steps is not given
FEWEST_STEPS_BEFORE = 3
REFERENCE = Contender(PLAIN)


def unmeasured(load: Workload, contender: Contender, facts: dict[str, Any]) -> Measurement:
    """Everything but the figures; facts: see `Measured.warm_up`."""
    return Measurement(
        **dataclasses.asdict(load),
        estimator=contender.name,
        form=contender.form,
        parameters=facts.get("parameters"),
        device_name=facts.get("device_name") or processor_name(),
        threads=facts.get("threads"),
    )


def bench(
    loads: Sequence[Workload],
    contenders: Sequence[Contender],
    *,
    rounds: int = 5,
    steps: int | None = None,
    derivatives: bool = False,
    in_process: bool = False,
    json_file: Path | None = None,
    plot_file: Path | None = None,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Measure every contender on every workload, these one after another.

    rounds, steps: see `Alternation`. derivatives: also compare SAMA's forms of derivative.
    in_process: contenders share this process. Peak memory is then each one's own on a GPU, whose
    allocator tells what is in use; a process's resident memory tells it less well. json_file gets
    all rows so far after each workload, so that an interruption loses one at most; plot_file (PNG)
    is drawn at the end.

    Raises:
        SamaError: a file that cannot be written, or nothing could be measured.
    """
    progress = progress or Silent()
    if derivatives and not any(c.estimator == "sama" for c in contenders):
        raise SamaError("--derivatives compares forms of sama; add sama to --estimators")
    if in_process and any(load.world_size > 1 for load in loads):
        raise SamaError("--in-process is one process; give --nproc 1, or leave it out")
    for option, file in (("--json", json_file), ("--plot", plot_file)):
        if file is not None:
            check_file(option, file)
    start = Here if in_process else Worker
    rows: list[Measurement] = []
    compared: set[str] = set()
    for load in loads:
        alternation = Alternation(load, rounds=rounds, steps=steps, progress=progress, start=start)
        found = alternation.measure(contenders)
        if derivatives and load.model not in compared:
            compared.add(load.model)
            at = next(i for i, row in enumerate(found) if row.estimator.split(":")[0] == "sama")
            found[at] = replace(found[at], derivatives=alternation.derivatives())
        rows += found
        if json_file is not None:
            with written(json_file) as file:
                text = json.dumps([row.as_dict() for row in rows], indent=2, allow_nan=False)
                file.write_text(text + "\n", encoding="utf-8")
    if all(row.error for row in rows):
        raise SamaError(f"nothing could be measured: {rows[0].error}")
    if plot_file is not None:
        from samacli.lab.bench.plot import plot

        with written(plot_file) as file:
            plot(rows, file)
    return rows


@dataclass
class _Warm:
    """A worker past its first steps.

    facts: see `Measured.warm_up`, of the first rank, and the peak memory of the one that took most.
    seconds_per_step: right after the first steps.
    """

    worker: Worker | Here
    facts: dict[str, Any]
    seconds_per_step: float


class Alternation:
    """The measurement of one workload.

    rounds: pairs of chunks to each estimator.
    steps: base steps a chunk, rounded up to whole meta steps; None: as many as plain training
        does in CHUNK_SECONDS.
    start: makes a worker.
    """

    def __init__(
        self,
        load: Workload,
        *,
        rounds: int,
        steps: int | None,
        progress: Progress,
        start: type[Worker] | type[Here] = Worker,
    ) -> None:
        self._load = load
        self._start = start
        self._rounds = rounds
        self._steps = 0 if steps is None else self._whole(steps)
        self._progress = progress
        self._beside = contextlib.ExitStack()
        self.plain: _Warm | None = None
        self._plain_seconds: list[float] = []

    def measure(self, contenders: Sequence[Contender]) -> list[Measurement]:
        """One row a contender, plain training first. A worker that fails leaves one that says so.

        Raises:
            SamaError: what a worker could not do and the user can mend.
        """
        others = [c for c in contenders if c != REFERENCE]
        with self._beside:
            try:
                plain = self._plain_worker()
            except WorkerFailedError as failure:
                self._progress.warn(f"{self._load.name}: {failure}")
                return [self._failed(c, failure, {}) for c in (REFERENCE, *others)]
            rows = [self._row(contender) for contender in others]
            if len(self._plain_seconds) < self._rounds:  # no estimator went through
                with self._progress.task(f"{self._load.name}: plain", self._rounds) as task:
                    for _ in range(self._rounds):
                        self._plain_seconds.append(self._chunk(self._plain_worker()))
                        task.advance()
        return [self._filled(REFERENCE, plain, self._plain_seconds, plain, [1.0]), *rows]

    def derivatives(self) -> list[dict[str, Any]] | None:
        """The forms of derivative with this model, in a worker of their own; None if it failed."""
        load = replace(self._load, world_size=1, unroll=1)
        with self._progress.task(f"{load.model}: forms of derivative", 1) as task:
            try:
                with self._start("sama", Measured, load, Contender("sama")) as worker:
                    rows: list[dict[str, Any]] = worker.ask("derivatives")[0]
            except WorkerFailedError as failure:
                self._progress.warn(f"{load.model}, forms of derivative: {failure.why}")
                return None
            task.advance()
        return rows

    def _row(self, contender: Contender) -> Measurement:
        description = f"{self._load.name}: {contender.name}"
        facts: dict[str, Any] = {}
        try:
            plain = self._plain_worker()
            facts = plain.facts
            with (
                self._warm(contender) as own,
                self._progress.task(description, self._rounds) as task,
            ):
                ours, theirs = [], []
                for number in range(self._rounds):
                    if number % 2 == 0:
                        theirs.append(self._chunk(plain))
                    ours.append(self._chunk(own))
                    if number % 2:
                        theirs.append(self._chunk(plain))
                    task.advance()
                self._plain_seconds += theirs
                ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
                row = self._filled(contender, own, ours, plain, ratios)
                if contender.estimator in SAMA:
                    row = replace(row, meta_step=own.worker.ask("breakdown")[0])
                return row
        except WorkerFailedError as failure:
            if failure.who == PLAIN:
                self._beside.close()
                self.plain = None
            self._progress.warn(f"{description}: {failure}")
            return self._failed(contender, failure, facts)

    def _filled(
        self,
        contender: Contender,
        own: _Warm,
        seconds: list[float],
        plain: _Warm,
        ratios: list[float],
    ) -> Measurement:
        samples = self._load.batch_size * self._load.world_size * self._steps
        rate, rates = median_and_quartiles([samples / s for s in seconds])
        ratio, ratio_quartiles = median_and_quartiles(ratios)
        peak, plain_peak = (one.facts["peak_memory_bytes"] for one in (own, plain))
        return replace(
            unmeasured(self._load, contender, own.facts),
            form=own.facts["form"],
            rounds=len(seconds),
            steps_per_round=self._steps,
            samples_per_second=rate,
            samples_per_second_quartiles=rates,
            relative_throughput=ratio,
            relative_throughput_quartiles=ratio_quartiles,
            peak_memory_bytes=peak,
            relative_memory=peak / plain_peak if plain_peak else None,
        )

    def _failed(
        self, contender: Contender, failure: WorkerFailedError, facts: dict[str, Any]
    ) -> Measurement:
        beside = failure.who == PLAIN and contender != REFERENCE
        why = f"plain training beside it: {failure.why}" if beside else failure.why
        return replace(unmeasured(self._load, contender, facts), error=why)

    def _plain_worker(self) -> _Warm:
        """Plain training's worker, started again if it is gone."""
        if self.plain is None:
            self.plain = self._beside.enter_context(self._warm(REFERENCE))
            self._steps = self._steps or self._whole(
                math.ceil(CHUNK_SECONDS / max(self.plain.seconds_per_step, 1e-6))
            )
        return self.plain

    @contextlib.contextmanager
    def _warm(self, contender: Contender) -> Iterator[_Warm]:
        """A worker past its first steps, which are not timed: libraries and caches settle."""
        load = self._load
        with self._start(
            contender.name, Measured, load, contender, ranks=load.world_size
        ) as worker:
            first = worker.ask("warm_up", steps=max(load.unroll + 1, FEWEST_STEPS_BEFORE))
            peak = max(facts["peak_memory_bytes"] for facts in first)
            seconds = max(worker.ask("chunk", steps=load.unroll))
            facts = {**first[0], "peak_memory_bytes": peak}
            yield _Warm(worker, facts, seconds / load.unroll)

    def _chunk(self, warm: _Warm) -> float:
        """Seconds that the slowest process took."""
        return float(max(warm.worker.ask("chunk", steps=self._steps)))

    def _whole(self, steps: int) -> int:
        return math.ceil(steps / self._load.unroll) * self._load.unroll


def median_and_quartiles(values: Sequence[float]) -> tuple[float, list[float]]:
    """The median, and [first quartile, third quartile]."""
    first, median, third = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return median, [first, third]
