"""∂u/∂g of every optimiser against autograd through its own step, in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samacli.meta.adaptation import adapt

from .reference import reference_adaptation, relative_error, snapshot

OPTIM = torch.optim
CASES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (OPTIM.SGD, {}),
    "sgd decay": (OPTIM.SGD, {"weight_decay": 0.1}),
    "sgd momentum": (OPTIM.SGD, {"momentum": 0.9}),
    "sgd dampening": (OPTIM.SGD, {"momentum": 0.9, "dampening": 0.3}),
    "sgd dampening decay": (
        OPTIM.SGD, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1, "maximize": True}),
    "sgd nesterov": (OPTIM.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "adam": (OPTIM.Adam, {}),
    "adam decay": (OPTIM.Adam, {"weight_decay": 0.1}),
    "adam decay maximize": (OPTIM.Adam, {"weight_decay": 0.1, "maximize": True}),
    "adamw": (OPTIM.AdamW, {"weight_decay": 0.1}),
    "adamw maximize": (OPTIM.AdamW, {"weight_decay": 0.1, "maximize": True}),
    "adam amsgrad": (OPTIM.Adam, {"amsgrad": True, "betas": (0.5, 0.5)}),
    "adam amsgrad decay": (
        OPTIM.Adam, {"amsgrad": True, "betas": (0.5, 0.5), "weight_decay": 0.1}),
    "nadam": (OPTIM.NAdam, {}),
    "nadam decay": (OPTIM.NAdam, {"weight_decay": 0.1, "maximize": True}),
    "nadam decoupled": (OPTIM.NAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "radam early": (OPTIM.RAdam, {"weight_decay": 0.1}),
    "radam late": (OPTIM.RAdam, {"betas": (0.9, 0.7), "maximize": True}),
    "radam late decay": (OPTIM.RAdam, {"betas": (0.9, 0.7), "weight_decay": 0.1}),
    "adamax": (OPTIM.Adamax, {"betas": (0.9, 0.5)}),
    "adamax decay": (OPTIM.Adamax, {"betas": (0.9, 0.5), "weight_decay": 0.1, "maximize": True}),
    "rmsprop": (OPTIM.RMSprop, {}),
    "rmsprop decay": (OPTIM.RMSprop, {"weight_decay": 0.1, "maximize": True}),
    "rmsprop momentum": (OPTIM.RMSprop, {"momentum": 0.9, "weight_decay": 0.1}),
    "rmsprop centred": (OPTIM.RMSprop, {"centered": True, "alpha": 0.9}),
    "rmsprop centred momentum": (
        OPTIM.RMSprop, {"centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    "adagrad": (OPTIM.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    "adagrad decay": (OPTIM.Adagrad, {"lr_decay": 0.1, "weight_decay": 0.1, "maximize": True}),
    "adadelta": (OPTIM.Adadelta, {"lr": 1.0}),
    "adadelta decay": (OPTIM.Adadelta, {"lr": 1.0, "weight_decay": 0.1, "maximize": True}),
}  # fmt: skip
SHAPES = [(5, 4), (4,), (3, 2, 2), ()]


def parameters(shapes: list[tuple[int, ...]] = SHAPES) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in shapes]


def step(optimizer: torch.optim.Optimizer, params: list[nn.Parameter]) -> None:
    for p in params:
        p.grad = torch.randn_like(p)
    optimizer.step()


def product(optimizer: torch.optim.Optimizer, params: list[Any], x: list[Tensor]) -> list[Tensor]:
    found = [w.clone() for w in x]
    slope = adapt(optimizer, params, found)
    expected = sum(float((a * b).sum()) for a, b in zip(x, found, strict=True))
    assert math.isclose(slope, expected, rel_tol=torch.finfo(x[0].dtype).eps ** 0.5)
    return found


@pytest.mark.parametrize("steps", [1, 2, 9])
@pytest.mark.parametrize("case", CASES)
def test_closed_form(case: str, steps: int) -> None:
    torch.manual_seed(steps)
    make, options = CASES[case]
    params = parameters()
    optimizer = make(params, **{"lr": 0.03, **options})
    for _ in range(steps - 1):
        step(optimizer, params)
    before = snapshot(optimizer)
    step(optimizer, params)
    x = [torch.randn_like(p) for p in params]
    if steps == 1 and options.get("momentum") and make is OPTIM.SGD:
        sign = -1 if options.get("maximize") else 1
        factor = 0.03 * sign * (1 + 0.9 * options.get("nesterov", False))
        expected = [factor * w for w in x]
    else:
        expected = reference_adaptation(optimizer, before, params, x)
    assert relative_error(product(optimizer, params, x), expected) < 1e-6


@pytest.mark.parametrize("switch", ["foreach", "fused", "plain"])
@pytest.mark.parametrize("make", [OPTIM.SGD, OPTIM.Adam, OPTIM.AdamW, OPTIM.Adagrad])
def test_every_implementation_of_the_step(make: Any, switch: str) -> None:
    torch.manual_seed(0)
    params = parameters()
    options = {"momentum": 0.9} if make is OPTIM.SGD else {}
    optimizer = make(
        params, lr=0.03, foreach=switch == "foreach", fused=switch == "fused", **options
    )
    step(optimizer, params)
    before = snapshot(optimizer)
    step(optimizer, params)
    x = [torch.randn_like(p) for p in params]
    expected = reference_adaptation(optimizer, before, params, x)
    assert relative_error(product(optimizer, params, x), expected) < 1e-7


@pytest.mark.parametrize(
    "options",
    [
        {"capturable": True, "fused": True},
        {"lr": torch.tensor(0.03), "foreach": False},
        {"lr": torch.tensor(0.03), "fused": True},
    ],
    ids=["capturable", "lr", "lr fused"],
)
def test_numbers_that_are_tensors(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    params = parameters()
    optimizer = OPTIM.AdamW(params, **{"lr": 0.03, **options})
    plain = OPTIM.AdamW([nn.Parameter(p.detach().clone()) for p in params], lr=0.03)
    for _ in range(3):
        step(optimizer, params)
        for twin, p in zip(plain.param_groups[0]["params"], params, strict=True):
            twin.grad = p.grad.clone()
        plain.step()
    assert isinstance(optimizer.state[params[0]]["step"], Tensor)
    x = [torch.randn_like(p) for p in params]
    expected = product(plain, plain.param_groups[0]["params"], x)
    assert relative_error(product(optimizer, params, x), expected) < 1e-6


def test_wrapped_optimizer() -> None:
    accelerate = pytest.importorskip("accelerate")
    torch.manual_seed(0)
    params = parameters()
    inner = OPTIM.Adam(params, lr=0.03)
    wrapped = accelerate.Accelerator(cpu=True).prepare_optimizer(inner)
    assert wrapped is not inner
    step(wrapped, params)
    x = [torch.randn_like(p) for p in params]
    assert relative_error(product(wrapped, params, x), product(inner, params, x)) == 0


@pytest.mark.parametrize("steps", [1, 2])
def test_parameters_without_elements(steps: int) -> None:
    torch.manual_seed(0)
    params = parameters([(0, 3), (2,)])
    optimizer = OPTIM.SGD(params, lr=0.03, momentum=0.9, dampening=0.3, weight_decay=0.1)
    for _ in range(steps):
        step(optimizer, params)
    x = [torch.ones_like(p) for p in params]
    factor = 0.03 * (1 if steps == 1 else 0.7)
    assert relative_error(product(optimizer, params, x), [factor * w for w in x]) < 1e-12


def test_vectors_have_to_fit() -> None:
    params = parameters()
    optimizer = OPTIM.Adam(params)
    step(optimizer, params)
    with pytest.raises(ValueError, match="sharded as the parameters"):
        adapt(optimizer, params, [torch.ones(7, dtype=torch.float64) for _ in params])


def test_groups_and_parameters_that_took_no_part() -> None:
    torch.manual_seed(0)
    params = parameters([(3,), (4,), (5,), (6,)])
    optimizer = OPTIM.AdamW(
        [{"params": params[:2], "lr": 0.1}, {"params": params[2:], "betas": (0.5, 0.6)}], lr=0.01
    )
    step(optimizer, params[1:])  # one parameter is a step behind
    before = snapshot(optimizer)
    step(optimizer, params)
    params[3].grad = None
    x = [torch.randn_like(p) for p in params]
    expected = reference_adaptation(optimizer, before, params, x)
    found = product(optimizer, params, x)
    assert relative_error(found, expected) < 1e-7
    assert not found[3].any()


def test_some_of_the_parameters() -> None:
    torch.manual_seed(0)
    params = parameters()
    optimizer = OPTIM.Adam(params)
    step(optimizer, params)
    x = [torch.randn_like(p) for p in params]
    whole = product(optimizer, params, x)
    part = product(optimizer, params[1:3], x[1:3])
    assert all(torch.equal(a, b) for a, b in zip(whole[1:3], part, strict=True))


def test_blocks_and_memory_layout_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    params = [
        nn.Parameter(torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)),
        nn.Parameter(torch.randn(50, 7)),
    ]
    optimizer = OPTIM.AdamW(params, lr=0.1)
    step(optimizer, params)
    step(optimizer, params)
    x = [torch.randn(p.shape) for p in params]
    whole = product(optimizer, params, x)
    monkeypatch.setattr("samacli.meta.adaptation.buckets.CPU_BLOCK", 16)
    assert relative_error(product(optimizer, params, x), whole) < 1e-6


@pytest.mark.parametrize("case", ["adam", "adamax", "rmsprop", "adagrad", "nadam", "adadelta"])
def test_elements_without_any_gradient_do_not_swamp_the_rest(case: str) -> None:
    torch.manual_seed(0)
    make, options = CASES[case]
    params = parameters([(8,)])
    optimizer = make(params, **{"lr": 0.03, **options, "initial_accumulator_value": 0}
                     if case == "adagrad" else {"lr": 0.03, **options})  # fmt: skip
    for _ in range(3):
        params[0].grad = torch.randn(8, dtype=torch.float64)
        params[0].grad[:4] = 0
        optimizer.step()
    (found,) = product(optimizer, params, [torch.ones(8, dtype=torch.float64)])
    assert found.isfinite().all()
    assert found[:4].abs().max() <= found[4:].abs().max() * (1e3 if case == "adadelta" else 1)


def test_needs_a_step_and_its_gradient() -> None:
    params = parameters()
    optimizer = OPTIM.Adam(params)
    x = [torch.ones_like(p) for p in params]
    with pytest.raises(RuntimeError, match="before zero_grad"):
        adapt(optimizer, params, x)
    for p in params:
        p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match=r"after optimizer\.step"):
        adapt(optimizer, params, x)
