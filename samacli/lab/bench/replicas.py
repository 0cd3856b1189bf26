"""This process among those of its setting."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from samacli.meta import DataParallel


@dataclass(frozen=True)
class Replica:
    """rank of world_size processes, computing on `device`."""

    rank: int
    world_size: int
    device: torch.device

    @staticmethod
    def join(device: str, world_size: int) -> Replica:
        """Meet the other processes, as the launcher's environment says."""
        rank = int(os.environ.get("RANK", 0))
        here = torch.device(device)
        if device == "cuda":
            here = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(here)
        if world_size > 1:
            dist.init_process_group("nccl" if device == "cuda" else "gloo")
        return Replica(rank, world_size, here)

    def wrapped(self, model: nn.Module) -> nn.Module:
        """The model for the base step: gradients averaged over the processes."""
        if self.world_size == 1:
            return model
        return DistributedDataParallel(
            model, device_ids=[self.device] if self.device.type == "cuda" else None
        )

    @property
    def parallel(self) -> DataParallel | None:
        """As the meta engine is told of it."""
        return DataParallel() if self.world_size > 1 else None

    def synchronize(self) -> None:
        """Until all that was asked of the device is done, in all processes."""
        if self.device.type != "cpu":
            torch.get_device_module(self.device).synchronize()
        if self.world_size > 1:
            dist.barrier()

    def leave(self) -> None:
        """Part from the other processes in good order."""
        if self.world_size > 1:
            dist.destroy_process_group()
