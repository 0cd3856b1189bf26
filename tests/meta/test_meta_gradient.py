"""The general form of sama against double backward in float64, for every optimiser."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from samacli.meta import BilevelProblem, MetaWeightNet, meta_gradient, weighting_meta_gradient

from .problems import batch, logits, meta_loss, mlp, model, train, weighting_problem
from .reference import (
    cosine,
    reference_adaptation,
    reference_meta_gradient,
    relative_error,
    snapshot,
)
from .test_adaptation import CASES

TOLERANCE = {"forward": 1e-5, "double-backward": 1e-5, "central": 1e-3, "one-sided": 1e-3}


def trained(kind: str, case: str):
    torch.manual_seed(0)
    net = model(kind).double()
    make, options = CASES[case]
    problem = weighting_problem(net, make(net.parameters(), **{"lr": 1e-3, **options}))
    train(problem, kind, 3)
    before = snapshot(problem.optimizer)
    base = train(problem, kind, 1)
    meta = batch(kind)
    expected = reference_meta_gradient(
        problem, base, meta, lambda p, x: reference_adaptation(problem.optimizer, before, p, x)
    )
    return problem, base, meta, expected


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["mlp", "transformer", "conv"])
def test_every_optimiser(kind: str, case: str) -> None:
    problem, base, meta, expected = trained(kind, case)
    exact = weighting_meta_gradient(problem, base, meta, derivative="forward")
    assert relative_error(exact, expected) < 1e-5
    for found in (
        weighting_meta_gradient(problem, base, meta, derivative="central"),
        meta_gradient(problem, base, meta),
    ):
        assert relative_error(found, expected) < 1e-3
        assert cosine(found, expected) > 0.9999


@pytest.mark.parametrize("derivative", TOLERANCE)
@pytest.mark.parametrize("kind", ["mlp", "transformer", "conv"])
def test_every_derivative(kind: str, derivative: str) -> None:
    problem, base, meta, expected = trained(kind, "adamw")
    found = meta_gradient(problem, base, meta, derivative=derivative)
    assert relative_error(found, expected) < TOLERANCE[derivative]


def no_grad_features(net: nn.Module, meta: nn.Module, data: tuple) -> torch.Tensor:
    """Constants of all kinds: made under no_grad, detached, a teacher's outputs."""
    with torch.no_grad():
        soft = net(data[0]).softmax(-1)
        entropy = -(soft * soft.log()).sum(-1)
    outputs = net(data[0])
    losses = F.cross_entropy(outputs, data[1], reduction="none")
    features = torch.stack([losses.detach(), entropy, outputs.data.norm(dim=-1)], dim=-1)
    return (meta(features) * losses).mean()


@pytest.mark.parametrize("derivative", TOLERANCE)
def test_what_the_loss_holds_constant_is_held_constant(derivative: str) -> None:
    torch.manual_seed(0)
    net = mlp(dropout=0.2).double()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    problem = BilevelProblem(
        net, optimizer, MetaWeightNet(3, hidden=8).double(), no_grad_features, meta_loss
    )
    base = train(problem, "mlp", 3)
    meta = batch("mlp")
    found = meta_gradient(problem, base, meta, "sama-na", derivative=derivative)
    expected = reference_meta_gradient(problem, base, meta, None)
    assert relative_error(found, expected) < TOLERANCE[derivative]


@pytest.mark.parametrize("derivative", TOLERANCE)
def test_meta_parameters_inside_the_model(derivative: str) -> None:
    """λ need not be weights: here it shifts the inputs and decays the parameters."""
    torch.manual_seed(0)
    net = mlp().double()

    class Shift(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(torch.randn(6, dtype=torch.float64))
            self.decay = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))
            self.unused = nn.Parameter(torch.zeros(2, dtype=torch.float64))
            self.frozen = nn.Parameter(torch.zeros(2, dtype=torch.float64), requires_grad=False)

    def base_loss(net: nn.Module, meta: nn.Module, data: tuple) -> torch.Tensor:
        decay = sum(p.square().sum() for p in net.parameters())
        return F.cross_entropy(net(data[0] + meta.by), data[1]) + meta.decay.exp() * decay

    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    problem = BilevelProblem(net, optimizer, Shift(), base_loss, meta_loss)
    base, meta = train(problem, "mlp", 2), batch("mlp")
    found = meta_gradient(problem, base, meta, derivative=derivative)
    expected = reference_meta_gradient(problem, base, meta, lambda p, x: [0.1 * w for w in x])
    assert relative_error(found, expected) < TOLERANCE[derivative]
    assert [g.shape for g in found] == [p.shape for p in problem.meta.parameters()]
    assert not found[2].any()
    assert not found[3].any()


@pytest.mark.parametrize("derivative", ["central", "one-sided", "forward", "contraction"])
def test_groups_frozen_unused_and_tied_parameters(derivative: str) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
            self.second.weight = self.first.weight
            self.out, self.unused = nn.Linear(6, 4), nn.Linear(3, 3)
            self.first.bias.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.second(self.first(x).tanh()).tanh())

    torch.manual_seed(0)
    net = Tied().double()
    groups = [
        {"params": [net.first.weight, net.second.bias], "lr": 1e-2},
        {"params": [*net.out.parameters(), *net.unused.parameters()], "weight_decay": 0.1},
    ]
    problem = weighting_problem(net, torch.optim.Adam(groups, lr=1e-3), correct=False)
    train(problem, "mlp", 3)
    before = snapshot(problem.optimizer)
    base, meta = train(problem, "mlp", 1), batch("mlp")
    expected = reference_meta_gradient(
        problem, base, meta, lambda p, x: reference_adaptation(problem.optimizer, before, p, x)
    )
    found = weighting_meta_gradient(problem, base, meta, derivative=derivative)
    assert relative_error(found, expected) < (1e-9 if derivative[0] in "f" else 1e-3)


def test_one_of_many_accumulated_batches() -> None:
    """∂u/∂g is that of the accumulated gradient; the base batch may be the last of them."""
    torch.manual_seed(0)
    net = mlp().double()
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), lr=1e-2))
    train(problem, "mlp", 2)
    problem.optimizer.zero_grad()
    for _ in range(3):
        base = batch("mlp")
        (problem.base_loss(net, problem.meta, base) / 3).backward()
    before = snapshot(problem.optimizer)
    problem.optimizer.step()
    meta = batch("mlp")
    expected = reference_meta_gradient(
        problem, base, meta, lambda p, x: reference_adaptation(problem.optimizer, before, p, x)
    )
    assert relative_error(meta_gradient(problem, base, meta), expected) < 1e-9


@pytest.mark.parametrize("form", ["general", "weighting"])
@pytest.mark.parametrize("derivative", ["central", "one-sided", "forward"])
def test_nudge(derivative: str, form: str) -> None:
    torch.manual_seed(0)
    net = mlp().double()
    problem = weighting_problem(net, torch.optim.SGD(net.parameters(), lr=0.1))
    base, meta = train(problem, "mlp", 3), batch("mlp")
    take = meta_gradient if form == "general" else weighting_meta_gradient
    expected = take(problem, base, meta, derivative=derivative)
    v = torch.autograd.grad(meta_loss(net, meta), list(net.parameters()))
    length = torch.stack([g.norm() for g in v]).norm()
    target = [(p - 0.5 * g / length).detach() for p, g in zip(net.parameters(), v, strict=True)]
    found = take(problem, base, meta, derivative=derivative, nudge=0.5)
    assert relative_error(found, expected) < 1e-12
    assert relative_error(list(net.parameters()), target) < 1e-6


def test_errors() -> None:
    net = mlp()
    problem = weighting_problem(net, torch.optim.Adam(net.parameters()))
    data = batch("mlp", dtype=torch.float32)
    with pytest.raises(ValueError, match="sama-na"):
        meta_gradient(problem, data, data, "betty")
    with pytest.raises(ValueError, match="one-sided"):
        meta_gradient(problem, data, data, "sama-na", derivative="two-sided")
    with pytest.raises(ValueError, match="contraction"):
        weighting_meta_gradient(problem, data, data, derivative="two-sided")
    with pytest.raises(RuntimeError, match="zero_grad"):
        meta_gradient(problem, data, data)
    problem.meta_loss = lambda model, data: torch.zeros((), requires_grad=True)
    with pytest.raises(ValueError, match="does not depend"):
        meta_gradient(problem, data, data)
    assert logits(net, data).requires_grad
