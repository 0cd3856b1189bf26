"""Run a function in several processes that know each other."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_replicas(function: Callable[..., Any], folder: Path, *args: Any, size: int = 2) -> list:
    """function(rank, *args) in `size` gloo processes; what each returned, by rank.

    The function must be importable; what it returns, loadable as tensors and plain values.
    """
    context = mp.start_processes(
        _worker, (function, str(folder), size, args), nprocs=size, start_method="spawn", join=False
    )
    assert context is not None
    while not context.join(timeout=120):
        pass
    return [torch.load(folder / f"{rank}.pt") for rank in range(size)]


def _worker(rank: int, function: Callable[..., Any], folder: str, size: int, args: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=60),
    )
    try:
        torch.save(function(rank, *args), f"{folder}/{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()
    # What was to be done is done. A thread of torch's that is still there when the interpreter
    # takes its libraries down has ended processes with SIGABRT now and then (sharded parameters).
    os._exit(0)
