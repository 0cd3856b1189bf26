"""The device, the precision and the random state of a run, through Accelerate."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

from samacli.errors import SamaError

DATA_PARALLEL = (
    DistributedType.NO,
    DistributedType.MULTI_CPU,
    DistributedType.MULTI_GPU,
    DistributedType.MULTI_NPU,
    DistributedType.MULTI_XPU,
)

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def make_accelerator(
    device: DeviceName = "auto", precision: Literal["auto", "fp32", "bf16"] = "auto"
) -> Accelerator:
    """An Accelerator for the asked device; bf16 by autocast, parameters stay float32.

    Raises:
        SamaError: the device is not there, or the launcher asks for more than data parallelism.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise SamaError("--device cuda: no CUDA device is available here; use --device cpu or auto")
    if device == "mps" and not torch.backends.mps.is_available():
        raise SamaError("--device mps: no MPS device is available here; use --device cpu or auto")
    # Accelerate keeps its first configuration for the life of the process; a second run in the
    # same process (a notebook, the tests) may ask for another.
    AcceleratorState._reset_state(reset_partial_state=True)
    mixed = (
        "bf16" if precision == "bf16" or (precision == "auto" and _bf16_is_fast(device)) else "no"
    )
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed)
    if accelerator.distributed_type not in DATA_PARALLEL:
        raise SamaError(
            f"launched with {accelerator.distributed_type.value}, but runs are data-parallel: "
            "launch with --nproc, torchrun, or accelerate without a sharding plugin"
        )
    return accelerator


def _bf16_is_fast(device: DeviceName) -> bool:
    """Whether the device computes in bf16; elsewhere it would be emulated, slowly."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "mps" or (device == "auto" and torch.backends.mps.is_available()):
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def memory_format(device: torch.device) -> torch.memory_format:
    """The memory format of an image network on a device.

    Channels-last is what tensor cores and oneDNN compute in: on one core in float32 it trains
    small residual networks 1.2 to 1.5 times as fast.
    """
    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def fits_on(device: torch.device, needed: int) -> bool:
    """Whether `needed` bytes of pixels are to lie on the device, for batches to be gathered there.

    Where they take no more than a quarter of its free memory: the rest is for training.
    """
    if device.type == "cuda":
        return needed <= torch.cuda.mem_get_info(device)[0] // 4
    return device.type == "cpu"


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement; on the CPU only Linux can, elsewhere the peak only ever rises."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device) -> int:
    """Bytes at most: allocated on the GPU, or resident in this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # `ru_maxrss` starts, in a child process, at its parent's peak; this does not.
    peak = resident_bytes("VmHWM")
    if peak is not None:
        return peak
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def resident_bytes(field: str) -> int | None:
    """This process's "VmRSS" (now) or "VmHWM" (peak), where the system tells (Linux)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)
