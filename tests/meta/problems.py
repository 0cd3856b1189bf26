"""Small two-level problems to take gradients of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samacli.meta import BilevelProblem, LabelCorrector, MetaWeightNet, WeightingProblem

CLASSES, SAMPLES = 4, 12


def mlp(dropout: float = 0.0) -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 8), nn.Tanh(),
        nn.Linear(8, CLASSES),
    )  # fmt: skip


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(),
        nn.Conv2d(4, 4, 3, stride=2), nn.SiLU(), nn.Flatten(), nn.Linear(16, CLASSES),
    )  # fmt: skip


class Transformer(nn.Module):
    """A BERT in small: embeddings with positions, attention, layer norms, dropout, tied bias."""

    def __init__(self, dropout: float = 0.0, width: int = 16) -> None:
        super().__init__()
        self.words = nn.Embedding(20, width)
        self.places = nn.Embedding(7, width)
        self.first = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 2, 32, dropout, "gelu", batch_first=True, norm_first=False
            )
            for _ in range(2)
        )
        self.out = nn.Linear(width, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x = self.first(self.words(tokens) + self.places(places))
        for block in self.blocks:
            x = block(x)
        return self.out(x[:, 0])


def inputs(kind: str, n: int, dtype: torch.dtype) -> Tensor:
    if kind == "transformer":
        return torch.randint(0, 20, (n, 7))
    return torch.randn(n, 36 if kind == "conv" else 6, dtype=dtype)


def batch(kind: str, n: int = SAMPLES, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return inputs(kind, n, dtype), torch.randint(0, CLASSES, (n,))


def model(kind: str, dropout: float = 0.0) -> nn.Module:
    if kind == "mlp":
        return mlp(dropout)
    return Transformer(dropout) if kind == "transformer" else conv_net()


class WeightAndCorrect(nn.Module):
    """λ of both kinds: sample weights and corrected labels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = MetaWeightNet(2, CLASSES, hidden=8)
        self.correct = LabelCorrector(CLASSES)


def logits(model: nn.Module, data: Any) -> Tensor:
    return model(data[0])


def weigh(meta: nn.Module, outputs: Tensor, data: Any) -> Tensor:
    """mean_i w_i ℓ_i."""
    losses = F.cross_entropy(outputs, data[1], reduction="none")
    features = torch.stack([losses, outputs.logsumexp(-1)], dim=-1).detach()
    return (meta.weight(features, data[1]) * losses).mean()


def weigh_and_correct(meta: nn.Module, outputs: Tensor, data: Any) -> Tensor:
    """mean_i w_i ℓ(o_i, q_i) with soft labels q, from the outputs and a fixed belief."""
    fixed = torch.linspace(-1, 1, CLASSES).to(outputs).log_softmax(-1).expand_as(outputs)
    soft = meta.correct(data[1], outputs.log_softmax(-1), fixed)
    losses = -(soft * outputs.log_softmax(-1)).sum(-1)
    features = torch.stack([losses, outputs.logsumexp(-1)], dim=-1).detach()
    return (meta.weight(features, data[1]) * losses).mean()


def meta_loss(model: nn.Module, data: Any) -> Tensor:
    return F.cross_entropy(model(data[0]), data[1])


def weighting_problem(
    net: nn.Module, optimizer: torch.optim.Optimizer, *, correct: bool = True
) -> WeightingProblem:
    meta = WeightAndCorrect().to(next(net.parameters()))
    return WeightingProblem(
        net, optimizer, meta, logits, weigh_and_correct if correct else weigh, meta_loss
    )


def as_bilevel(problem: WeightingProblem) -> BilevelProblem:
    """The same problem, in the general form."""
    return BilevelProblem(
        problem.model, problem.optimizer, problem.meta, problem.base_loss, problem.meta_loss
    )


def train(problem: Any, kind: str, steps: int, dtype: torch.dtype = torch.float64) -> Any:
    """Base steps; the gradient of the last one is left in place. Returns its batch."""
    data = None
    for _ in range(steps):
        data = batch(kind, dtype=dtype)
        problem.optimizer.zero_grad()
        problem.base_loss(problem.model, problem.meta, data).backward()
        problem.optimizer.step()
    problem.meta.zero_grad()
    return data
