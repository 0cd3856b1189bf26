"""The product for optimisers without a closed form, against their formulas written out."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from samacli.meta.adaptation import adapt
from samacli.meta.adaptation.generic import dry_run, generic_product

from .reference import relative_error
from .test_adaptation import CASES


class Lamb(torch.optim.Optimizer):
    """Written as users write optimisers: under no_grad, on .data, with .item()."""

    def __init__(self, params, lr=1e-2, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.01):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )
        self.history: list[int] = []

    @torch.no_grad()
    def step(self, closure=None):
        self.history.append(1)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad, state = p.grad.data, self.state[p]
                if not state:
                    state["m"], state["v"] = torch.zeros_like(p.data), torch.zeros_like(p.data)
                b1, b2 = group["betas"]
                state["m"].mul_(b1).add_(grad, alpha=1 - b1)
                state["v"].mul_(b2).addcmul_(grad, grad, value=1 - b2)
                ratio = state["m"] / state["v"].sqrt().add_(group["eps"])
                ratio.add_(p.data, alpha=group["weight_decay"])
                trust = (p.data.norm() / ratio.norm()).item()
                p.data.add_(ratio, alpha=-group["lr"] * trust)


class OpaqueLamb(Lamb):
    """The same, with a number made in a way that can't be followed."""

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                scale = float(p.grad.norm())
                p.data.add_(p.grad, alpha=-group["lr"] * scale)
                self.state[p]["seen"] = 1


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                m = state.setdefault("m", torch.zeros_like(p))
                p.add_(m.mul(0.9).add(p.grad, alpha=0.1).sign_(), alpha=-group["lr"])
                m.mul_(0.99).add_(p.grad, alpha=0.01)


def lamb(p: Tensor, g: Tensor, s: dict, lr: float) -> Tensor:
    m, v = 0.9 * s["m"] + 0.1 * g, 0.99 * s["v"] + 0.01 * g**2
    ratio = m / (v.sqrt() + 1e-6) + 0.01 * p
    return lr * p.norm() / ratio.norm() * ratio


def adafactor(p: Tensor, g: Tensor, s: dict, lr: float) -> Tensor:
    t = float(s["step"]) + 1
    rate = t**-0.8
    alpha = max(1e-3, float(p.norm()) / p.numel() ** 0.5) * min(lr, t**-0.5)
    if g.dim() > 1:
        row = (1 - rate) * s["row_var"] + rate * (g**2).mean(-1, keepdim=True)
        col = (1 - rate) * s["col_var"] + rate * (g**2).mean(-2, keepdim=True)
        var = row @ col / row.mean(-2, keepdim=True)
    else:
        var = (1 - rate) * s["variance"] + rate * g**2
    update = g / var.sqrt()
    return alpha * update / (update.norm() / update.numel() ** 0.5).clamp_min(1.0) + lr * 0.01 * p


def muon(p: Tensor, g: Tensor, s: dict, lr: float) -> Tensor:
    buffer = 0.95 * s["momentum_buffer"] + 0.05 * g
    x = 0.05 * g + 0.95 * buffer
    x = x.T if g.shape[0] > g.shape[1] else x
    x = x / x.norm().clamp_min(1e-7)
    a, b, c = 3.4445, -4.7750, 2.0315
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.T if g.shape[0] > g.shape[1] else x
    return lr * max(1.0, g.shape[0] / g.shape[1]) ** 0.5 * x


FORMULAS: dict[str, tuple[Callable, Callable]] = {
    "adafactor": (lambda p: torch.optim.Adafactor(p, lr=0.05), adafactor),
    "lamb": (lambda p: Lamb(p, lr=0.05), lamb),
    "muon": (lambda p: torch.optim.Muon(p, lr=0.05), muon),
}


def stepped(make: Callable, steps: int = 3, shapes=((5, 4), (3, 6))) -> tuple:
    torch.manual_seed(0)
    params = [nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in shapes]
    optimizer = make(params)
    for _ in range(steps):
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer.step()
    return optimizer, params, [torch.randn_like(p) for p in params]


@pytest.mark.parametrize("name", FORMULAS)
def test_product_is_transposed_and_exact(name: str) -> None:
    make, formula = FORMULAS[name]
    optimizer, params, x = stepped(make)
    expected = []
    for p, w in zip(params, x, strict=True):
        g = p.grad.clone().requires_grad_()
        update = formula(p.detach(), g, optimizer.state[p], optimizer.param_groups[0]["lr"])
        expected += torch.autograd.grad(update, g, w)
    found = [w.clone() for w in x]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapt(optimizer, params, found)
    assert relative_error(found, expected) < 1e-6


def test_adafactor_of_vectors() -> None:
    make, formula = FORMULAS["adafactor"]
    optimizer, (p,), (x,) = stepped(make, shapes=((7,),))
    g = p.grad.clone().requires_grad_()
    expected = torch.autograd.grad(formula(p.detach(), g, optimizer.state[p], 0.05), g, x)
    found = [x.clone()]
    adapt(optimizer, [p], found)
    assert relative_error(found, list(expected)) < 1e-6


@pytest.mark.parametrize("case", ["sgd dampening", "adam decay", "rmsprop centred", "adadelta"])
def test_agrees_with_the_closed_form(case: str) -> None:
    make, options = CASES[case]
    optimizer, params, x = stepped(lambda p: make(p, **{"lr": 0.01, **options}), 5)
    for p in params:
        p.grad = torch.randn_like(p)
    closed, generic = [w.clone() for w in x], [w.clone() for w in x]
    generic_product(optimizer, params, generic)  # looks at the next step
    optimizer.step()
    adapt(optimizer, params, closed)  # looks at the last step
    assert relative_error(generic, closed) < 1e-9


@pytest.mark.parametrize("case", ["adamw", "rmsprop centred", "nadam"])
def test_one_step_more_makes_little_difference(case: str) -> None:
    make, options = CASES[case]
    optimizer, params, x = stepped(lambda p: make(p, **{"lr": 0.01, **options}), 200)
    closed, generic = [w.clone() for w in x], [w.clone() for w in x]
    adapt(optimizer, params, closed)
    generic_product(optimizer, params, generic)
    assert relative_error(generic, closed) < 0.05


def test_difference_where_the_step_is_opaque() -> None:
    optimizer, params, x = stepped(OpaqueLamb)
    found = [w.clone() for w in x]
    with pytest.warns(UserWarning, match="differences of dry runs"):
        adapt(optimizer, params, found)
    lr = optimizer.param_groups[0]["lr"]
    expected = []
    for p, w in zip(params, x, strict=True):
        expected += [lr * (p.grad.norm() * w + p.grad * (p.grad * w).sum() / p.grad.norm())]
    assert relative_error(found, expected) < 1e-6


@pytest.mark.parametrize("make", [Lion, torch.optim.Rprop])
def test_sign_updates_fall_back_with_a_warning(make: type) -> None:
    optimizer, params, x = stepped(make)
    found = [w.clone() for w in x]
    with pytest.warns(UserWarning, match="sama-na"):
        adapt(optimizer, params, found)
    assert all(torch.equal(a, b) for a, b in zip(found, x, strict=True))


def test_nothing_of_the_optimiser_is_touched() -> None:
    optimizer, params, x = stepped(Lamb)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)  # replaces optimizer.step
    optimizer.register_step_post_hook(lambda *_: pytest.fail("a hook of the user's has run"))
    before = copy.deepcopy([p.detach() for p in params]), copy.deepcopy(optimizer.state_dict())
    history = list(optimizer.history)
    adapt(optimizer, params, x)
    assert all(torch.equal(a, p) for a, p in zip(before[0], params, strict=True))
    assert str(before[1]) == str(optimizer.state_dict())
    assert optimizer.history == history


def test_dry_run_takes_the_step_that_the_optimiser_takes() -> None:
    for make in (Lamb, torch.optim.AdamW, torch.optim.Adafactor, Lion):
        optimizer, params, _ = stepped(make)
        values = [p.detach().clone() for p in params]
        states = [copy.deepcopy(optimizer.state[p]) for p in params]
        found, left = dry_run(optimizer, params, values, [p.grad for p in params], states)
        optimizer.step()
        assert relative_error([f.detach() for f in found], params) < 1e-12
        for p, state in zip(params, left, strict=True):
            assert state.keys() == optimizer.state[p].keys()
