"""The layer-by-layer contraction, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from samacli.meta import WeightingProblem, weighting_meta_gradient
from samacli.meta.derivatives.contraction import Contraction, UnsupportedLayerError
from samacli.meta.direction import direction
from samacli.meta.weight_net import MetaWeightNet

from .problems import CLASSES, batch, conv_net, meta_loss, mlp, train, weigh, weighting_problem
from .reference import relative_error


class Bert(nn.Module):
    """Attention made of modules, as transformers makes it; positions broadcast over samples."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.words = nn.Embedding(20, width, padding_idx=0)
        self.places = nn.Embedding(7, width)
        self.norm, self.last = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.up, self.down = nn.Linear(width, 16), nn.Linear(16, width, bias=False)
        self.out = nn.Linear(width, CLASSES)
        self.drop = nn.Dropout(0.2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.words(tokens) + self.places(torch.arange(tokens.shape[1])[None]))
        y = torch.nn.functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
        x = self.last(x + self.drop(y))
        return self.out((x + self.down(torch.nn.functional.gelu(self.up(x))))[:, 0])


def losses(model: nn.Module, data: tuple) -> torch.Tensor:
    return nn.functional.cross_entropy(model(data[0]), data[1], reduction="none")


def weigh_losses(meta: nn.Module, outputs: torch.Tensor, data: tuple) -> torch.Tensor:
    return (meta(outputs.detach()[:, None], data[1]) * outputs).mean()


@pytest.mark.parametrize("outputs", ["logits", "losses"])
@pytest.mark.parametrize("kind", ["bert", "conv"])
def test_equals_forward_mode(kind: str, outputs: str) -> None:
    torch.manual_seed(0)
    net = (Bert() if kind == "bert" else conv_net()).double()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    problem = weighting_problem(net, optimizer, correct=False)
    if outputs == "losses":
        weights = MetaWeightNet(1, CLASSES, hidden=8).double()
        problem = WeightingProblem(net, optimizer, weights, losses, weigh_losses, meta_loss)
    name = "transformer" if kind == "bert" else "conv"
    base = train(problem, name, 3)
    net.train(kind == "bert")  # batch norm mixes samples in training mode
    meta = batch(name)
    grads = [p.grad.clone() for p in net.parameters()]
    found = weighting_meta_gradient(problem, base, meta, derivative="contraction")
    expected = weighting_meta_gradient(problem, base, meta, derivative="forward")
    assert relative_error(found, expected) < 1e-9
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))
    assert all(p.requires_grad for p in net.parameters())


def test_rides_on_a_backward_pass_of_training() -> None:
    """Σ of the shares is what the gradients of the same pass give."""
    torch.manual_seed(0)
    net = Bert().double()
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), lr=1e-3), correct=False)
    train(problem, "transformer", 3)
    at = direction(problem, batch("transformer"))
    record = Contraction(net, at.params, at.v)
    problem.optimizer.zero_grad()
    with record.listening():
        loss = problem.base_loss(net, problem.meta, batch("transformer"))
    record.check_complete()
    loss.backward()
    total = sum(float((p.grad * v).sum()) for p, v in zip(at.params, at.v, strict=True))
    assert float(record.per_sample.sum()) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("kind", ["conv", "custom", "attention"])
def test_falls_back_and_says_so(kind: str) -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.ones(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.by

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x[:, None], x[:, None], x[:, None])[0][:, 0]

    torch.manual_seed(0)
    nets = {"conv": conv_net, "custom": lambda: nn.Sequential(Scale(), mlp()),
            "attention": lambda: nn.Sequential(Attend(), mlp())}  # fmt: skip
    net = nets[kind]().double()
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), lr=1e-3), correct=False)
    name = "conv" if kind == "conv" else "mlp"
    base, meta = train(problem, name, 3), batch(name)
    with pytest.warns(UserWarning, match="no contraction"):
        found = weighting_meta_gradient(problem, base, meta, derivative="contraction")
    expected = weighting_meta_gradient(problem, base, meta, derivative="central")
    assert relative_error(found, expected) < 1e-12


def test_refuses_corrected_labels() -> None:
    torch.manual_seed(0)
    net = mlp().double()
    problem = weighting_problem(net, torch.optim.SGD(net.parameters(), lr=0.1), correct=True)
    base, meta = train(problem, "mlp", 2), batch("mlp")
    with pytest.raises(ValueError, match="corrected labels"):
        weighting_meta_gradient(problem, base, meta, derivative="contraction")
    assert all(p.requires_grad for p in net.parameters())
    problem.objective = weigh
    weighting_meta_gradient(problem, base, meta, derivative="contraction")


def test_parameters_used_behind_a_modules_back() -> None:
    net = nn.MultiheadAttention(4, 2)
    with pytest.raises(UnsupportedLayerError):
        Contraction(net, list(net.parameters()), list(net.parameters()))
