"""Endless batches that can be continued: each stream knows where it is and goes where it is told.

`state_dict()` names the next batch by a few numbers; `load_state_dict(state)` makes an equal
stream, one just made, go on there, without reading what lies before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

Batch = dict[str, Any]


@runtime_checkable
class Batches(Protocol):
    """An endless iterator over batches with a position."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def state_dict(self) -> dict[str, Any]:
        """The position, as nested dicts of numbers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a position that `state_dict` gave."""
        ...


class Mapped:
    """Each batch of another stream passed through a function, which keeps no state."""

    def __init__(self, batches: Batches, function: Callable[[Batch], Batch]) -> None:
        self.batches, self.function = batches, function

    def __iter__(self) -> Mapped:
        return self

    def __next__(self) -> Batch:
        return self.function(next(self.batches))

    def state_dict(self) -> dict[str, Any]:
        return self.batches.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.batches.load_state_dict(state)


class Beside:
    """Each batch with a batch of another stream under a name of its own.

    name: the key. first: what is beside the first `count` batches; then: beside all later ones.
    None: nothing.
    """

    def __init__(
        self, batches: Batches, name: str, count: int, first: Batches | None, then: Batches | None
    ) -> None:
        self.batches, self.name = batches, name
        self.count, self.first, self.then = count, first, then
        self.given = 0

    def __iter__(self) -> Beside:
        return self

    def __next__(self) -> Batch:
        beside = self.first if self.given < self.count else self.then
        batch = next(self.batches)
        self.given += 1
        return batch if beside is None else {**batch, self.name: next(beside)}

    def state_dict(self) -> dict[str, Any]:
        beside = {"first": self.first, "then": self.then}
        positions = {name: s.state_dict() for name, s in beside.items() if s is not None}
        return {"given": self.given, "batches": self.batches.state_dict(), **positions}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.given = state["given"]
        self.batches.load_state_dict(state["batches"])
        for name, stream in (("first", self.first), ("then", self.then)):
            if stream is not None:
                stream.load_state_dict(state[name])
