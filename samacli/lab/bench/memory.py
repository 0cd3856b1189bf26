"""Peak memory that is the same from run to run, and comparable between CPU and GPU.

On a GPU: bytes allocated at most, by torch. On the CPU: the most that was resident, less what was
resident just before the model was built, libraries loaded; so both leave the libraries out.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys

import torch

from samacli.training.runtime import peak_memory_bytes, reset_peak_memory, resident_bytes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


class PeakMemory:
    """Bytes at most, from the moment it is made: make it before the model."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        else:
            give_back_freed_memory()
        reset_peak_memory(device)
        # where the system has no figure for now, the peak so far has to do
        on_gpu = device.type == "cuda"
        now = torch.cuda.memory_allocated(device) if on_gpu else resident_bytes("VmRSS")
        self._before = now if now is not None else peak_memory_bytes(device)

    def bytes(self) -> int:
        """The peak so far."""
        return max(peak_memory_bytes(self._device) - self._before, 0)


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
