"""How computing code tells of its progress without printing: the caller supplies a printer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Planned:
    """A training that is to come.

    description: as the training loop tells of it, another one for each. name: what is trained, the
    same for all seeds. rows: about how many rows' passes (forward and back) a step takes, as
    (fraction of the steps up to which it is so, rows); steps with a meta level differ along the
    run. after: likewise, of what follows the training: tests, scores.
    """

    description: str
    name: str
    steps: int
    rows: tuple[tuple[float, float], ...]
    after: float = 0.0

    @property
    def kind(self) -> str:
        """Trainings of one kind take a row's pass in the same time."""
        return "plain" if len(self.rows) == 1 else "meta"

    def work(self, steps: int) -> float:
        """Rows' passes of the first `steps` steps."""
        done, start = 0.0, 0.0
        for until, rows in self.rows:
            stop = min(until * self.steps, steps)
            done += max(0.0, stop - start) * rows
            start = max(start, stop)
        return done

    @property
    def all_work(self) -> float:
        """Rows' passes of the whole, with what follows."""
        return self.work(self.steps) + self.after


class Task(Protocol):
    """One stretch of work with a known number of steps."""

    def advance(self, steps: int = 1) -> None:
        """`steps` more are done."""
        ...


class Progress(Protocol):
    """What a workflow tells the person who waits for it."""

    def expect(self, trainings: Sequence[Planned], seconds_a_row: float | None = None) -> None:
        """All trainings of the run, in order; each is a `task` of its description later.

        seconds_a_row: what a row's pass took when it was tried, if it was.
        """
        ...

    def task(self, description: str, total: int) -> contextlib.AbstractContextManager[Task]:
        """A stretch of `total` steps, shown while the block lasts."""
        ...

    def note(self, message: str) -> None:
        """A plain fact."""
        ...

    def warn(self, message: str) -> None:
        """Something that the user should act on, or at least know."""
        ...


class _SilentTask:
    def advance(self, steps: int = 1) -> None:
        pass


class Silent:
    """Says nothing: the default where samacli is used as a library."""

    def expect(self, trainings: Sequence[Planned], seconds_a_row: float | None = None) -> None:
        pass

    @contextlib.contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        yield _SilentTask()

    def note(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


# Seconds of a training before its own pace counts: the first steps are not like the others.
_SETTLED = 2.0


class Timetable:
    """How long the trainings of a run will take in all, by the paces that were measured so far.

    A training under way goes by its own pace, those to come by what the last of their kind took a
    row, or one of the other kind, or by `seconds_a_row` where nothing has been trained yet.
    """

    def __init__(
        self,
        trainings: Sequence[Planned],
        seconds_a_row: float | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.trainings = list(trainings)
        self._place = {one.description: i for i, one in enumerate(self.trainings)}
        self._paces: dict[str, float] = {}
        self._guess, self._clock = seconds_a_row, clock or time.monotonic
        self.at = -1  # place of the training under way, or of the last one
        self._done = self._first = 0
        self._began: float | None = None
        self._running = False

    def begin(self, description: str) -> bool:
        """A task begins; returns whether it is one of the trainings. Those before it are over."""
        place = self._place.get(description)
        if place is None:
            return False
        self.at, self._began, self._running = place, None, True
        return True

    def reached(self, done: int) -> None:
        """So many steps of the training under way are done; first told with those of an earlier
        process, or 0."""
        if self._began is None:
            self._began, self._first = self._clock(), done
        self._done = done

    def end(self) -> None:
        """The training under way is over."""
        pace = self._own_pace()
        if pace is not None:
            self._paces[self.trainings[self.at].kind] = pace
        self._running = False

    def _own_pace(self) -> float | None:
        """Seconds a row of the training under way."""
        if self._began is None:
            return None
        one = self.trainings[self.at]
        rows = one.work(self._done) - one.work(self._first)
        return (self._clock() - self._began) / rows if rows > 0 else None

    def _pace(self, kind: str) -> float | None:
        known = {**self._paces}
        if self._running and self._began is not None:
            one, own = self.trainings[self.at], self._own_pace()
            settled = self._clock() - self._began >= _SETTLED
            if own is not None and (settled or not (known or self._guess)):
                known[one.kind] = own
        return known.get(kind, next(iter(known.values()), self._guess))

    @property
    def seconds_left(self) -> float | None:
        """Of all trainings from here on; None where no pace is known."""
        seconds = 0.0
        for place in range(max(self.at, 0), len(self.trainings)):
            one = self.trainings[place]
            work = one.all_work
            if place == self.at:
                work = one.all_work - one.work(self._done) if self._running else 0.0
            pace = self._pace(one.kind)
            if pace is None:
                return None
            seconds += work * pace
        return seconds
