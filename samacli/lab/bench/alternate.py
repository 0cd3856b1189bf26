"""Plain training and each estimator by turns: one pair of chunks a round, never both at once.

Machines drift (other load, temperature) and chunks side by side drift together, so throughput is
compared pair by pair. The order within a pair changes from round to round.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch.distributed import TCPStore

from samacli.lab.bench.contenders import PLAIN, SAMA, Contender
from samacli.lab.bench.row import Row, empty_row, median_and_quartiles
from samacli.lab.bench.setting import Setting
from samacli.lab.bench.team import Asked, Starter, WorkerFailedError, member
from samacli.progress import Progress

CHUNK_SECONDS = 3.0  # of plain training, where the number of steps is not given
FEWEST_STEPS_BEFORE = 3
REFERENCE = Contender(PLAIN)


@dataclass
class _Warm:
    """A worker past its first steps.

    peak_memory_bytes: of the process that took most; seconds_per_step: right after the first.
    form: SAMA's, as it ran.
    """

    member: Asked
    peak_memory_bytes: int
    form: str | None
    seconds_per_step: float


class Alternation:
    """One setting's measurement.

    rounds: pairs of chunks to each estimator.
    steps: base steps a chunk, rounded up to whole meta steps; None: as many as plain training
        does in CHUNK_SECONDS.
    start: makes a worker.
    """

    def __init__(
        self,
        store: TCPStore,
        setting: Setting,
        *,
        rounds: int,
        steps: int | None,
        progress: Progress,
        start: Starter = member,
    ) -> None:
        self._store = store
        self._start = start
        self._setting = setting
        self._rounds = rounds
        self._steps = None if steps is None else self._whole(steps)
        self._progress = progress
        self._beside = contextlib.ExitStack()
        self._plain: _Warm | None = None
        self._plain_seconds: list[float] = []

    def rows(self, contenders: Sequence[Contender]) -> list[Row]:
        """One row a contender, plain training first. A worker that fails leaves one that says so.

        Raises:
            SamaError: what a worker could not do and the user can mend.
        """
        others = [c for c in contenders if c != REFERENCE]
        with self._beside:
            try:
                plain = self._plain_worker()
            except WorkerFailedError as failure:
                self._progress.warn(f"{self._setting.name}: {failure}")
                return [self._failed(c, failure, {}) for c in (REFERENCE, *others)]
            rows = [self._row_or_failure(contender) for contender in others]
            if len(self._plain_seconds) < self._rounds:
                self._plain_alone()
        return [self._plain_row(plain), *rows]

    def derivatives(self) -> list[dict[str, Any]] | None:
        """The forms of derivative with this model, in a worker of their own; None if it failed."""
        setting = replace(self._setting, world_size=1, unroll=1)
        with self._progress.task(f"{setting.model}: forms of derivative", 1) as task:
            try:
                with self._worker(Contender("sama"), setting) as worker:
                    rows: list[dict[str, Any]] = worker.ask("derivatives")[0]["rows"]
            except WorkerFailedError as failure:
                self._progress.warn(f"{setting.model}, forms of derivative: {failure.why}")
                return None
            task.advance()
        return rows

    def _row_or_failure(self, contender: Contender) -> Row:
        facts: dict[str, Any] = {}
        try:
            plain = self._plain_worker()
            facts = plain.member.facts
            return self._row(contender, plain)
        except WorkerFailedError as failure:
            if failure.who == PLAIN:
                self._beside.close()
                self._plain = None
            self._progress.warn(f"{self._setting.name}: {contender.name}: {failure}")
            return self._failed(contender, failure, facts)

    def _row(self, contender: Contender, plain: _Warm) -> Row:
        setting, steps = self._setting, self._steps
        assert steps is not None
        description = f"{setting.name}: {contender.name}"
        with (
            self._warm(contender) as own,
            self._progress.task(description, self._rounds) as task,
        ):
            pairs = []
            for number in range(self._rounds):
                order = (plain, own) if number % 2 == 0 else (own, plain)
                seconds = {who.member.name: self._chunk(who.member, steps) for who in order}
                pairs.append((seconds[plain.member.name], seconds[own.member.name]))
                task.advance()
            self._plain_seconds += [seconds for seconds, _ in pairs]
            row = self._filled(
                replace(
                    empty_row(setting, contender, own.member.facts),
                    form=own.form,
                ),
                own.peak_memory_bytes,
                [seconds for _, seconds in pairs],
                plain.peak_memory_bytes,
                [ours / theirs for ours, theirs in pairs],
            )
            if contender.estimator in SAMA:
                row = replace(row, meta_step=own.member.ask("breakdown")[0]["seconds"])
            return row

    def _plain_row(self, plain: _Warm) -> Row:
        row = empty_row(self._setting, REFERENCE, plain.member.facts)
        peak = plain.peak_memory_bytes
        return self._filled(row, peak, self._plain_seconds, peak, [1.0])

    def _filled(
        self, row: Row, peak: int, seconds: list[float], plain_peak: int, ratios: list[float]
    ) -> Row:
        steps = self._steps
        assert steps is not None
        samples = self._setting.batch_size * self._setting.world_size * steps
        rate, rates = median_and_quartiles([samples / s for s in seconds])
        ratio, ratio_quartiles = median_and_quartiles(ratios)
        return replace(
            row,
            rounds=len(seconds),
            steps_per_round=steps,
            samples_per_second=rate,
            samples_per_second_quartiles=rates,
            relative_throughput=ratio,
            relative_throughput_quartiles=ratio_quartiles,
            peak_memory_bytes=peak,
            relative_memory=peak / plain_peak if plain_peak else None,
        )

    def _failed(
        self, contender: Contender, failure: WorkerFailedError, facts: dict[str, Any]
    ) -> Row:
        row = empty_row(self._setting, contender, facts)
        beside = failure.who == PLAIN and contender != REFERENCE
        return replace(
            row, error=f"plain training beside it: {failure.why}" if beside else failure.why
        )

    def _plain_worker(self) -> _Warm:
        """Plain training's worker, started again if it is gone."""
        if self._plain is None:
            self._plain = self._beside.enter_context(self._warm(REFERENCE))
            if self._steps is None:
                self._steps = self._whole(
                    math.ceil(CHUNK_SECONDS / max(self._plain.seconds_per_step, 1e-6))
                )
        return self._plain

    def _plain_alone(self) -> None:
        plain, steps = self._plain_worker(), self._steps
        assert steps is not None
        with self._progress.task(f"{self._setting.name}: plain", self._rounds) as task:
            for _ in range(self._rounds):
                self._plain_seconds.append(self._chunk(plain.member, steps))
                task.advance()

    @contextlib.contextmanager
    def _warm(self, contender: Contender) -> Iterator[_Warm]:
        """A worker past its first steps, which are not timed: libraries and caches settle."""
        unroll = self._setting.unroll
        with self._worker(contender, self._setting) as worker:
            before = max(unroll + 1, FEWEST_STEPS_BEFORE)
            first = worker.ask("warm_up", steps=before)
            peak = max(answer["peak_memory_bytes"] for answer in first)
            seconds = self._chunk(worker, unroll)
            yield _Warm(worker, peak, first[0]["form"], seconds / unroll)

    def _worker(
        self, contender: Contender, setting: Setting
    ) -> contextlib.AbstractContextManager[Asked]:
        return self._start(self._store, setting, contender)

    @staticmethod
    def _chunk(worker: Asked, steps: int) -> float:
        """Seconds that the slowest process took."""
        return max(float(answer["seconds"]) for answer in worker.ask("chunk", steps=steps))

    def _whole(self, steps: int) -> int:
        return math.ceil(steps / self._setting.unroll) * self._setting.unroll
