"""The neighbours: implicit differentiation and unrolling, against dense algebra and autograd."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from samacli.meta import BilevelProblem, meta_gradient

from .problems import batch, logits, meta_loss, mlp, model, train, weighting_problem
from .reference import relative_error

METHODS = ("sama", "sama-na", "neumann", "cg", "unrolled")


class Vector(nn.Module):
    """A single parameter vector."""

    def __init__(self, start: torch.Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(start.clone())


def quadratic():
    """L_base = ½θᵀAθ − θᵀBλ + cᵀλ, L_meta = ½‖θ − t‖², so that θ* = A⁻¹Bλ and
    dL_meta/dλ = Bᵀ A⁻¹ (θ* − t)."""
    torch.manual_seed(0)
    root, b, t = torch.randn(6, 6), torch.randn(6, 3), torch.randn(6)
    a = (root @ root.T / 6 + torch.eye(6)).double()
    b, t = b.double(), t.double()
    meta = Vector(torch.randn(3, dtype=torch.float64))
    theta = torch.linalg.solve(a, b @ meta.value.detach())
    net = Vector(theta)
    problem = BilevelProblem(
        net,
        torch.optim.SGD(net.parameters(), lr=0.1),
        meta,
        lambda m, meta, _: m.value @ a @ m.value / 2 - m.value @ b @ meta.value + meta.value.sum(),
        lambda m, _: (m.value - t).square().sum() / 2,
    )
    net.value.grad = torch.zeros(6, dtype=torch.float64)
    return problem, a, b, theta - t


def test_quadratic_with_known_hypergradient() -> None:
    problem, a, b, slope = quadratic()
    exact = b.T @ torch.linalg.solve(a, slope)
    (found,) = meta_gradient(problem, None, None, "cg", iterations=6)
    assert relative_error([found], [exact]) < 1e-6
    (found,) = meta_gradient(problem, None, None, "neumann", iterations=300, alpha=0.2)
    assert relative_error([found], [exact]) < 1e-6
    (found,) = meta_gradient(problem, [None] * 400, None, "unrolled")
    assert relative_error([found], [exact]) < 1e-6
    # with the identity in the inverse's place, as the formulas of both say
    (found,) = meta_gradient(problem, None, None, "sama")
    assert relative_error([found], [0.1 * b.T @ slope]) < 1e-12
    (found,) = meta_gradient(problem, None, None, "sama-na")
    assert relative_error([found], [b.T @ slope]) < 1e-12


def dense(problem, base, meta, damping: float = 0.0) -> list[torch.Tensor]:
    """−(∂²L_base/∂λ∂θ)(H + damping)⁻¹ ∂L_meta/∂θ with the Hessian written out."""
    params = list(problem.model.parameters())

    def flat(value: torch.Tensor, **how: bool) -> torch.Tensor:
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, params, **how)])

    vector = flat(problem.meta_loss(problem.model, meta))
    grads = flat(problem.base_loss(problem.model, problem.meta, base), create_graph=True)
    rows = [flat(g, retain_graph=True) for g in grads]
    hessian = torch.stack(rows) + damping * torch.eye(len(rows), dtype=grads.dtype)
    solved = torch.linalg.solve(hessian, vector)
    return [-g for g in torch.autograd.grad(grads @ solved, list(problem.meta.parameters()))]


def regression():
    """A convex problem with a decayed linear model, whose Hessian is positive definite."""
    torch.manual_seed(0)
    net = nn.Linear(6, 4).double()
    problem = weighting_problem(net, torch.optim.SGD(net.parameters(), lr=0.1))
    loss = problem.base_loss
    general = BilevelProblem(
        net, problem.optimizer, problem.meta,
        lambda m, meta, d: loss(m, meta, d) + 0.05 * sum(p.square().sum() for p in m.parameters()),
        meta_loss,
    )  # fmt: skip
    return general, train(general, "mlp", 3), batch("mlp")


def test_iterative_solvers_approach_the_dense_solution() -> None:
    problem, base, meta = regression()
    exact = dense(problem, base, meta)
    for method, options, end in (("cg", {}, 1e-6), ("neumann", {"alpha": 0.4}, 1e-3)):
        errors = [
            relative_error(
                meta_gradient(problem, base, meta, method, iterations=k, **options), exact
            )
            for k in (1, 5, 25, 150)
        ]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < end


def test_damping() -> None:
    problem, base, meta = regression()
    found = meta_gradient(problem, base, meta, "cg", iterations=60, damping=0.3)
    assert relative_error(found, dense(problem, base, meta, 0.3)) < 1e-6


def test_unrolled_sgd_step_equals_autograd() -> None:
    torch.manual_seed(0)
    net = mlp().double()
    problem = weighting_problem(net, torch.optim.SGD(net.parameters(), lr=0.3))
    base, meta = train(problem, "mlp", 2), batch("mlp")
    params = dict(net.named_parameters())
    loss = problem.base_loss(net, problem.meta, base)
    grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
    moved = {k: p - 0.3 * g for (k, p), g in zip(params.items(), grads, strict=True)}
    end = F.cross_entropy(torch.func.functional_call(net, moved, (meta[0],)), meta[1])
    expected = torch.autograd.grad(end, list(problem.meta.parameters()))
    found = meta_gradient(problem, [base], meta, "unrolled")
    assert relative_error(found, list(expected)) < 1e-10


def weigh_by_live_features(meta: nn.Module, outputs: torch.Tensor, data: tuple) -> torch.Tensor:
    """Nothing is detached, so that training again sees all that autograd sees."""
    losses = F.cross_entropy(outputs, data[1], reduction="none")
    features = torch.stack([losses, outputs.logsumexp(-1)], dim=-1)
    return (meta.weight(features, data[1]) * losses).mean()


@pytest.mark.parametrize("make", ["sgd", "adamw", "adam foreach", "adam fused", "adafactor"])
@pytest.mark.parametrize("kind", ["mlp", "transformer"])
def test_unrolled_equals_finite_differences_of_training(kind: str, make: str) -> None:
    """dL_meta/dλ along a random direction, by training again with λ moved."""
    torch.manual_seed(0)
    net = model(kind).double()
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, nesterov=False),
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, amsgrad=True),
        "adam foreach": lambda p: torch.optim.Adam(p, lr=1e-2, foreach=True, weight_decay=0.1),
        "adam fused": lambda p: torch.optim.Adam(p, lr=1e-2, fused=True),
        "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
    }[make](net.parameters())
    problem = weighting_problem(net, optimizer)
    problem.objective = weigh_by_live_features
    train(problem, kind, 3)
    batches, meta = [batch(kind) for _ in range(3)], batch(kind)
    found = meta_gradient(problem, batches, meta, "unrolled")
    way = [torch.randn_like(p) for p in problem.meta.parameters()]
    start = {k: v.clone() for k, v in net.state_dict().items()}
    kept = copy.deepcopy(optimizer.state_dict())

    def after_training(by: float) -> float:
        net.load_state_dict(start)
        optimizer.load_state_dict(copy.deepcopy(kept))
        with torch.no_grad():
            for p, w in zip(problem.meta.parameters(), way, strict=True):
                p.add_(w, alpha=by)
        for data in batches:
            optimizer.zero_grad()
            problem.base_loss(net, problem.meta, data).backward()
            optimizer.step()
        with torch.no_grad():
            for p, w in zip(problem.meta.parameters(), way, strict=True):
                p.sub_(w, alpha=by)
            return float(meta_loss(net, meta))

    slope = (after_training(1e-6) - after_training(-1e-6)) / 2e-6
    expected = sum(float((g * w).sum()) for g, w in zip(found, way, strict=True))
    assert slope == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("method", METHODS)
def test_one_signature_and_no_trace(method: str) -> None:
    torch.manual_seed(0)
    net = model("transformer", 0.2)
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), lr=1e-3))
    base = train(problem, "transformer", 2, torch.float32)
    meta = batch("transformer")
    theta = [p.detach().clone() for p in net.parameters()]
    grads = [p.grad.clone() for p in net.parameters()]
    state = str(problem.optimizer.state_dict())
    random = torch.get_rng_state()
    found = meta_gradient(problem, [base] if method == "unrolled" else base, meta, method)
    assert [g.shape for g in found] == [p.shape for p in problem.meta.parameters()]
    assert any(g.abs().max() > 0 for g in found)
    assert all(torch.equal(p, t) for p, t in zip(net.parameters(), theta, strict=True))
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), grads, strict=True))
    assert str(problem.optimizer.state_dict()) == state
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in problem.meta.parameters())
    assert logits(net, base).shape


def test_unrolled_wants_a_list() -> None:
    net = mlp()
    problem = weighting_problem(net, torch.optim.SGD(net.parameters(), lr=0.1))
    with pytest.raises(TypeError, match="list"):
        meta_gradient(problem, batch("mlp"), batch("mlp"), "unrolled")
