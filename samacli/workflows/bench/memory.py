"""Peak memory that is the same from run to run, and comparable between CPU and GPU.

On a GPU: bytes allocated at most, by torch. On the CPU: the most that was resident, less what was
resident just before the model was built, libraries loaded; so both leave the libraries out.

The operating system's `ru_maxrss` starts, in a child process, at its parent's peak. The peak of
the process's own memory (`VmHWM`, Linux) does not, and can be started anew.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


class PeakMemory:
    """Bytes at most, from the moment it is made: make it before the model."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
            return
        give_back_freed_memory()
        with contextlib.suppress(OSError):  # not everywhere; then the peak includes the libraries'
            Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS") or _highest()

    def bytes(self) -> int:
        """The peak so far."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._before
        return max((_status("VmHWM") or _highest()) - self._before, 0)


def _status(field: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)


def _highest() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def give_back_freed_memory() -> None:
    """Return what malloc holds in reserve (glibc; nothing elsewhere)."""
    _glibc("malloc_trim", 0)


def exact_allocation() -> None:
    """From now on freed tensors leave memory at once: the peak is of what is in use.

    By default glibc keeps blocks of up to 32 MiB in a heap with holes, and the peak depends on
    how they happen to fall. This costs page faults, so it is for the measurement of memory alone.
    """
    _glibc("mallopt", _M_MMAP_THRESHOLD, 1 << 16)
    _glibc("mallopt", _M_TRIM_THRESHOLD, 1 << 16)


def fast_allocation() -> None:
    """Back to where glibc's own thresholds settle in a process that uses large blocks."""
    _glibc("mallopt", _M_MMAP_THRESHOLD, 32 << 20)
    _glibc("mallopt", _M_TRIM_THRESHOLD, 64 << 20)


def _glibc(function: str, *arguments: int) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has neither
            getattr(ctypes.CDLL(None), function)(*arguments)
