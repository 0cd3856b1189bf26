"""Alone at an output, of all processes of this machine that ask, until the process ends."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing keeps a second process away, then
    fcntl = None  # type: ignore[assignment]


class Lock:
    """An advisory lock (flock) on one file, which is there while somebody holds it.

    The system lets it go when a process dies; a file that is left behind then keeps nobody away.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._path = Path()

    def take(self, path: Path) -> bool:
        """Whether the file, made if need be, is this process's now.

        Raises OSError where it can't be made.
        """
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if fcntl is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                same = os.path.samestat(os.fstat(descriptor), path.stat())
            except BlockingIOError:
                os.close(descriptor)
                return False
            except FileNotFoundError:
                same = False  # its last holder took it away between the two calls
            if same:
                self._descriptor, self._path = descriptor, path
                return True
            os.close(descriptor)

    def release(self) -> None:
        """Let it go, if it is held, and take the file away."""
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None
