"""Alone with a file, of all processes of this machine that ask, until the process ends."""

from __future__ import annotations

from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows: nothing keeps a second process away, then
    fcntl = None  # type: ignore[assignment]


class Lock:
    """An advisory lock (flock) on one file at a time. The system lets it go when a process dies."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def take(self, path: Path) -> bool:
        """Whether the file is this process's now; a lock held before is let go."""
        self.release()
        file = path.open("rb")
        if fcntl is not None:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                return False
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
