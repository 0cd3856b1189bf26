"""The work that all contenders do: one model, one optimiser, the same batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from samacli.lab.bench.models import build_model
from samacli.lab.bench.replicas import Replica
from samacli.lab.bench.setting import CLASSES, Setting
from samacli.meta import MetaWeightNet, WeightingProblem
from samacli.recipe.schema import Optimizer
from samacli.training.objective import Batch, model_inputs, weighted_cross_entropy
from samacli.training.optim import make_optimizer

DISTINCT_BATCHES = 8
META_LEARNING_RATE = 1e-3
FIRST_TOKEN = 10  # those before it mean padding and the like in most vocabularies


class Work:
    """A base model to train and a meta-weight-net to learn, the same whoever estimates.

    model: the module itself; wrapped: what base steps go through (DistributedDataParallel).
    batches, meta_batches: endless; random tokens and labels, those of this process.
    """

    def __init__(self, setting: Setting, replica: Replica) -> None:
        torch.manual_seed(setting.seed)
        self.setting = setting
        self.replica = replica
        model: Any = build_model(setting.model, CLASSES)
        self._vocabulary: int = model.config.vocab_size
        self.model: nn.Module = model.to(replica.device)
        self.wrapped = replica.wrapped(self.model)
        self.optimizer = make_optimizer(self.model, Optimizer())
        self.meta = MetaWeightNet().to(replica.device)
        self.meta_optimizer = torch.optim.AdamW(self.meta.parameters(), lr=META_LEARNING_RATE)
        self.batches = self._random_batches(0)
        self.meta_batches = self._random_batches(1)
        # Replicas draw masks of their own.
        torch.manual_seed(setting.seed + replica.rank)

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

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """The precision of the setting."""
        if self.setting.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.replica.device.type, dtype=torch.bfloat16)

    def logits(self, batch: Batch) -> Tensor:
        """o(θ) (n, classes) of a base step."""
        with self.autocast():
            return logits_of(self.wrapped, batch)

    def meta_update(self, gradients: list[Tensor]) -> None:
        """λ takes a step along its gradient, which is the same in all processes."""
        for parameter, gradient in zip(self.meta.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.meta_optimizer.step()
        self.meta_optimizer.zero_grad()

    def _random_batches(self, stream: int) -> Iterator[Batch]:
        setting = self.setting
        generator = torch.Generator().manual_seed(
            (setting.seed * 1000 + self.replica.rank) * 2 + stream
        )
        shape = (setting.batch_size, setting.sequence_length)
        batches = []
        for _ in range(DISTINCT_BATCHES):
            tokens = torch.randint(FIRST_TOKEN, self._vocabulary, shape, generator=generator)
            labels = torch.randint(CLASSES, shape[:1], generator=generator)
            batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
            batches.append(
                {k: v.to(self.replica.device) for k, v in {**batch, "labels": labels}.items()}
            )
        return _endless(batches)


def _endless(batches: list[Batch]) -> Iterator[Batch]:
    while True:
        yield from batches


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


plain_objective = weighted_cross_entropy
