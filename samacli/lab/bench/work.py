"""The work that all contenders do: one model, one optimiser, the same batches, in every process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from samacli.lab.bench.workload import CLASSES, Workload, build_model
from samacli.lab.workers import MEETING
from samacli.meta import DataParallel, MetaWeightNet, WeightingProblem
from samacli.recipe.schema import Optimizer
from samacli.training.objective import Batch, model_inputs, weighted_cross_entropy
from samacli.training.optim import make_optimizer

DISTINCT_BATCHES = 8
META_LEARNING_RATE = 1e-3
FIRST_TOKEN = 10  # those before it mean padding and the like in most vocabularies


@dataclass(frozen=True)
class Replica:
    """This process: rank of world_size, computing on `device`."""

    rank: int
    world_size: int
    device: torch.device

    @staticmethod
    def join(device: str, world_size: int) -> Replica:
        """Meet the other ranks of this worker."""
        rank = int(os.environ.get("RANK", 0))
        here = torch.device(device)
        if device == "cuda":
            here = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(here)
        if world_size > 1:
            dist.init_process_group(
                "nccl" if device == "cuda" else "gloo",
                init_method=f"file://{os.environ[MEETING]}",
                rank=rank,
                world_size=world_size,
            )
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


class Work:
    """A base model to train and a meta-weight-net to learn, the same whoever estimates.

    model: the module itself; wrapped: what base steps go through (DistributedDataParallel).
    batches, meta_batches: endless; random tokens and labels, those of this process.
    """

    def __init__(self, load: Workload, replica: Replica) -> None:
        torch.manual_seed(load.seed)
        self.load = load
        self.replica = replica
        model: Any = build_model(load.model)
        self._vocabulary: int = model.config.vocab_size
        self.model: nn.Module = model.to(replica.device)
        self.wrapped = replica.wrapped(self.model)
        self.optimizer = make_optimizer(self.model, Optimizer())
        self.meta = MetaWeightNet().to(replica.device)
        self.meta_optimizer = torch.optim.AdamW(self.meta.parameters(), lr=META_LEARNING_RATE)
        self.batches = self._random_batches(0)
        self.meta_batches = self._random_batches(1)
        # Replicas draw masks of their own.
        torch.manual_seed(load.seed + replica.rank)

    @property
    def problem(self) -> WeightingProblem:
        """Sample weighting from the loss alone, as in Meta-Weight-Net (arXiv 1902.07379)."""
        return WeightingProblem(
            model=self.model,
            optimizer=self.optimizer,
            meta=self.meta,
            outputs=logits_of,
            objective=weighted_objective,
            meta_loss=meta_loss,
            parallel=self.replica.parallel,
        )

    def autocast(self, precision: str | None = None) -> contextlib.AbstractContextManager[None]:
        """In a precision; None: the workload's."""
        bf16 = (precision or self.load.precision) == "bf16"
        return torch.autocast(self.replica.device.type, dtype=torch.bfloat16, enabled=bf16)

    def logits(self, batch: Batch, precision: str | None = None) -> Tensor:
        """o(θ) (n, classes) of a base step."""
        with self.autocast(precision):
            return logits_of(self.wrapped, batch)

    def weighted_loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The base level's, of weights by λ."""
        return weighted_objective(self.meta, logits, batch)

    def meta_update(self, gradients: list[Tensor]) -> None:
        """λ takes a step along its gradient, which is the same in all processes."""
        for parameter, gradient in zip(self.meta.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.meta_optimizer.step()
        self.meta_optimizer.zero_grad()

    def _random_batches(self, stream: int) -> Iterator[Batch]:
        load = self.load
        generator = torch.Generator().manual_seed(
            (load.seed * 1000 + self.replica.rank) * 2 + stream
        )
        shape = (load.batch_size, load.sequence_length)
        batches = []
        for _ in range(DISTINCT_BATCHES):
            tokens = torch.randint(FIRST_TOKEN, self._vocabulary, shape, generator=generator)
            labels = torch.randint(CLASSES, shape[:1], generator=generator)
            batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            batches.append(
                {k: v.to(self.replica.device) for k, v in {**batch, "labels": labels}.items()}
            )
        return cycle(batches)


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    """Logits (n, classes) in float32, or in float64 where the model computes in it."""
    logits: Tensor = model(**model_inputs(batch)).logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def weighted_objective(meta: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
    """mean_i w_i(ℓ_i; λ)·ℓ_i, the weights' feature detached."""
    losses = torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none")
    return (meta(losses.detach()[:, None]) * losses).mean()


def meta_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy on a batch whose labels count as right."""
    return weighted_cross_entropy(logits_of(model, batch), batch)
