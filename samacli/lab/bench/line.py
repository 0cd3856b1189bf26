"""How the parent and its workers talk: numbered messages in a key-value store of the parent's."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore

HOST = "127.0.0.1"
FOREVER = timedelta(days=30)

Message = dict[str, Any]


class Line:
    """One worker's messages; each of its processes reads every command and answers it.

    A broken connection (the parent is gone) is an error in the worker, which then ends.
    """

    def __init__(self, store: TCPStore, worker: str) -> None:
        self._store = store
        self._worker = worker

    def command(self, number: int, message: Message) -> None:
        """Parent: say what is to be done."""
        self._store.set(f"{self._worker}/command/{number}", json.dumps(message))

    def next_command(self, number: int) -> Message:
        """Worker: wait for it, without using the processor."""
        message: Message = json.loads(self._store.get(f"{self._worker}/command/{number}"))
        return message

    def answer(self, number: int, rank: int, message: Message) -> None:
        """Worker: one process's answer."""
        self._store.set(self._key(number, rank), json.dumps(message))

    def answers(self, number: int, ranks: int) -> dict[int, Message]:
        """Parent: the answers that are there by now, by rank."""
        there = [rank for rank in range(ranks) if self._store.check([self._key(number, rank)])]
        return {rank: json.loads(self._store.get(self._key(number, rank))) for rank in there}

    def _key(self, number: int, rank: int) -> str:
        return f"{self._worker}/answer/{number}/{rank}"


def host() -> TCPStore:
    """The parent's store, on a port that is free."""
    return TCPStore(HOST, 0, is_master=True, wait_for_workers=False, timeout=FOREVER)


def join(port: int) -> TCPStore:
    """A worker's connection to it."""
    return TCPStore(HOST, port, is_master=False, wait_for_workers=False, timeout=FOREVER)
