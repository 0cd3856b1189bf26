"""A meta step leaves everything but its result as it found it."""

from __future__ import annotations

import copy

import pytest
import torch

from samacli.meta import meta_gradient, weighting_meta_gradient

from .problems import batch, model, train, weighting_problem


def state_of(problem) -> dict:
    return {
        "theta": [p.detach().clone() for p in problem.model.parameters()],
        "memory": [p.data_ptr() for p in problem.model.parameters()],
        "flags": [p.requires_grad for p in problem.model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in problem.model.parameters()],
        "buffers": [b.clone() for b in problem.model.buffers()],
        "optimizer": copy.deepcopy(problem.optimizer.state_dict()),
        "meta": [p.detach().clone() for p in problem.meta.parameters()],
        "meta grads": [p.grad for p in problem.meta.parameters()],
        "random": torch.get_rng_state(),
    }


def assert_same(a, b) -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["transformer", "conv"])
@pytest.mark.parametrize("form", ["central", "one-sided", "forward", "general"])
def test_state_is_bit_identical(form: str, kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    net = model(kind, 0.2).to(dtype)
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), lr=1e-3))
    data = train(problem, kind, 3, dtype)
    meta = batch(kind, dtype=dtype)
    before = state_of(problem)
    if form == "general":
        meta_gradient(problem, data, meta)
    else:
        weighting_meta_gradient(problem, data, meta, derivative=form)
    assert_same(state_of(problem), before)


def test_state_is_restored_after_an_error() -> None:
    torch.manual_seed(0)
    net = model("conv")
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), lr=1e-3))
    data = train(problem, "conv", 2, torch.float32)
    outputs, calls = problem.outputs, []

    def failing(model, batch):
        calls.append(1)
        result = outputs(model, batch)
        if len(calls) == 2:
            raise ArithmeticError("on purpose")
        return result

    problem.outputs = failing
    meta = batch("conv", dtype=torch.float32)
    before = state_of(problem)
    with pytest.raises(ArithmeticError, match="on purpose"):
        weighting_meta_gradient(problem, data, meta)
    assert_same(state_of(problem), before)
