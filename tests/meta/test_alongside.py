"""The meta gradient that shares the next base step's forward pass."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import pytest
import torch

from samacli.meta import direction, outputs_and_meta_gradient, riding, weighting_meta_gradient

from .problems import batch, model, train, weighting_problem
from .reference import relative_error
from .test_contraction import Bert


@pytest.mark.parametrize("derivative", ["one-sided", "central", "forward"])
@pytest.mark.parametrize("kind", ["mlp", "transformer", "conv"])
def test_same_gradient_and_same_pass(kind: str, derivative: str) -> None:
    torch.manual_seed(0)
    net = model(kind, 0.3).double()
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), lr=1e-3))
    train(problem, kind, 3)
    base, meta = batch(kind), batch(kind)
    expected = weighting_meta_gradient(problem, base, meta, derivative="forward")

    buffers = [b.clone() for b in net.buffers()]
    random = torch.get_rng_state()
    plain = problem.outputs(net, base)
    loss = problem.objective(problem.meta, plain, base)
    plain_grads = torch.autograd.grad(loss, list(net.parameters()))
    after = torch.get_rng_state(), [b.clone() for b in net.buffers()]
    with torch.no_grad():
        for b, was in zip(net.buffers(), buffers, strict=True):
            b.copy_(was)
    torch.set_rng_state(random)

    at = direction(problem, meta)
    assert torch.equal(torch.get_rng_state(), random)
    problem.optimizer.zero_grad()
    outputs, found = outputs_and_meta_gradient(problem, base, at, derivative=derivative)
    assert relative_error(found, expected) < (1e-9 if derivative == "forward" else 1e-3)
    assert torch.equal(outputs, plain)
    assert torch.equal(torch.get_rng_state(), after[0])
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), after[1], strict=True))

    loss = problem.objective(problem.meta, outputs, base)
    grads = torch.autograd.grad(loss, list(net.parameters()))
    assert relative_error(grads, plain_grads) < 1e-12


def test_memory_of_v_is_given_up() -> None:
    torch.manual_seed(0)
    net = model("mlp")
    problem = weighting_problem(net, torch.optim.SGD(net.parameters(), lr=0.1))
    train(problem, "mlp", 2, torch.float32)
    data = batch("mlp", dtype=torch.float32)
    at = direction(problem, data)
    calls = []

    def base_pass() -> torch.Tensor:
        calls.append(len(at.v))
        return problem.outputs(net, data)

    outputs_and_meta_gradient(problem, data, at, base_pass=base_pass)
    assert calls == [0]


def test_riding_on_the_backward_pass() -> None:
    torch.manual_seed(0)
    net = Bert().double()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    problem = weighting_problem(net, optimizer, correct=False)
    train(problem, "transformer", 3)
    base, meta = batch("transformer"), batch("transformer")
    expected = weighting_meta_gradient(problem, base, meta, derivative="forward")
    at = direction(problem, meta)
    optimizer.zero_grad()
    with riding(problem, at) as rider:
        outputs = problem.outputs(net, base)
    with pytest.raises(RuntimeError, match="backward"):
        rider.meta_gradient(base, outputs)
    (problem.objective(problem.meta, outputs, base) / 4).backward()
    found = rider.meta_gradient(base, outputs, loss_scale=1 / 4)
    assert relative_error(found, expected) < 1e-9
    assert all(p.grad is not None for p in net.parameters())


def test_riding_refuses_corrected_labels() -> None:
    torch.manual_seed(0)
    net = model("mlp").double()
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), lr=1e-3))
    base = train(problem, "mlp", 3)
    at = direction(problem, base)
    with riding(problem, at) as rider:
        outputs = problem.outputs(net, base)
    problem.objective(problem.meta, outputs, base).backward()
    with pytest.raises(ValueError, match="corrected labels"):
        rider.meta_gradient(base, outputs)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, partial(torch.optim.SGD, momentum=0.9)])
def test_gradients_may_be_given_up_for_half_their_memory(optimizer: Any) -> None:
    torch.manual_seed(0)
    net = model("transformer").double()
    net.places.weight.requires_grad_(False)
    problem = weighting_problem(net, optimizer(net.parameters(), lr=0.01), correct=False)
    train(problem, "transformer", 3)
    clean = batch("transformer")
    exact = direction(problem, clean)
    rounded = direction(problem, clean, release_gradients=True)
    assert all(p.grad is None for p in net.parameters())
    assert float(rounded.slope) == pytest.approx(float(exact.slope), rel=1e-2)
    assert rounded.loss == exact.loss
    for a, b in zip(rounded.v, exact.v, strict=True):
        assert ((a - b).abs() <= 2**-8 * b.abs()).all()
    with pytest.raises(RuntimeError, match="no gradient is left"):
        direction(problem, clean, release_gradients=True)


def test_an_optimiser_without_a_closed_form_keeps_its_gradients() -> None:
    class Own(torch.optim.SGD):
        pass

    net = model("mlp").double()
    problem = weighting_problem(net, Own(net.parameters(), lr=0.01), correct=False)
    train(problem, "mlp", 2)
    clean = batch("mlp")
    exact, kept = (direction(problem, clean, release_gradients=r) for r in (False, True))
    assert all(torch.equal(a, b) for a, b in zip(exact.v, kept.v, strict=True))
    assert all(p.grad is not None for p in net.parameters())


def test_a_direction_in_half_the_memory_costs_hardly_any_exactness() -> None:
    torch.manual_seed(0)
    net = model("transformer").double()
    net.blocks = torch.nn.ModuleList()  # its attention uses parameters behind their module's back
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), lr=0.01), correct=False)
    train(problem, "transformer", 3)
    data, clean = batch("transformer"), batch("transformer")
    found = {}
    for compact, at in [(c, direction(problem, clean)) for c in (False, True)]:
        with riding(problem, at, compact=compact) as rider:
            outputs = problem.outputs(net, data)
        problem.objective(problem.meta, outputs, data).backward(inputs=list(net.parameters()))
        found[compact] = rider.meta_gradient(data, outputs)
    assert 0 < relative_error(found[True], found[False]) < 2**-7


def test_riding_keeps_neither_v_nor_activations_after_the_backward_pass() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4))
    problem = weighting_problem(net, torch.optim.SGD(net.parameters(), lr=0.1), correct=False)
    train(problem, "mlp", 1, torch.float32)
    data = batch("mlp", dtype=torch.float32)
    hidden = []
    net[1].register_forward_hook(lambda _, args, output: hidden.append(weakref.ref(output)))
    at = direction(problem, data)
    v = weakref.ref(at.v[0])
    with riding(problem, at) as rider:
        outputs = problem.outputs(net, data)
    del at
    problem.objective(problem.meta, outputs, data).backward()
    rider.meta_gradient(data, outputs)
    assert outputs.grad_fn is not None
    assert v() is None
    assert hidden[-1]() is None, "the outputs keep the activations alive"
