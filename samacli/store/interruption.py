"""Ctrl-C and SIGTERM as a request that a training run grants when its step is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Request:
    """signal: of the first request to stop, 0 while there is none."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self, number: int, frame: Any) -> None:
        # Of several processes, each gets the terminal's SIGINT and the launcher's SIGTERM after it.
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number


@contextmanager
def interruptible() -> Iterator[Request]:
    """Inside, a first Ctrl-C or SIGTERM is noted; a second Ctrl-C raises KeyboardInterrupt at once.

    Python hands signals to the main thread alone; in another one nothing is changed.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
