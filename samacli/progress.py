"""How computing code tells of its progress without printing: the caller supplies a printer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol


class Task(Protocol):
    """One stretch of work with a known number of steps."""

    def advance(self, steps: int = 1) -> None:
        """`steps` more are done."""
        ...


class Progress(Protocol):
    """What a workflow tells the person who waits for it."""

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

    @contextlib.contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        yield _SilentTask()

    def note(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass
