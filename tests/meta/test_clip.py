"""∂u/∂g of a step that took clipped gradients, against the step itself and `clip_grad_norm_`."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samacli.meta import BilevelProblem, Clip, direction

from .problems import mlp

OPTIM = torch.optim
CASES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (OPTIM.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    "adam": (OPTIM.Adam, {"eps": 1e-4}),
    "adamw": (OPTIM.AdamW, {"weight_decay": 0.1}),
    "rmsprop": (OPTIM.RMSprop, {}),
    "without a closed form": (OPTIM.ASGD, {}),
}
MOST = 0.5


class Prepared:
    """A model in float64 after a step by clipped gradients, and the step by any other gradient."""

    def __init__(self, case: str, size: float) -> None:
        torch.manual_seed(0)
        make, options = CASES[case]
        self.model = mlp().double()
        self.params = list(self.model.parameters())
        self.optimizer = make(self.params, **{"lr": 0.05, **options})
        for _ in range(3):
            for p in self.params:
                p.grad = torch.randn_like(p)
            self.optimizer.step()
        self.before = copy.deepcopy((self.model, self.optimizer.state_dict()))
        self.make, self.options = make, options
        raw = [torch.randn_like(p) for p in self.params]
        norm = torch.nn.utils.get_total_norm(raw)
        self.raw = [g * (size * MOST / norm) for g in raw]
        for p, g in zip(self.params, self.raw, strict=True):
            p.grad = g.clone()
        self.norm = torch.nn.utils.clip_grad_norm_(self.params, MOST)
        self.optimizer.step()
        self.inputs = torch.randn(9, 6, dtype=torch.float64), torch.randint(0, 4, (9,))
        self.problem = BilevelProblem(
            model=self.model, optimizer=self.optimizer, meta=nn.Linear(1, 1),
            base_loss=lambda *_: torch.zeros(()), meta_loss=self.meta_loss,
        )  # fmt: skip

    def meta_loss(self, model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def update(self, gradients: list[Tensor]) -> list[Tensor]:
        """u = θ before − θ after the step by these gradients, clipped as torch does it."""
        model = copy.deepcopy(self.before[0])
        params = list(model.parameters())
        optimizer = self.make(params, **{"lr": 0.05, **self.options})
        optimizer.load_state_dict(copy.deepcopy(self.before[1]))
        old = [p.detach().clone() for p in params]
        for p, g in zip(params, gradients, strict=True):
            p.grad = g.clone()
        torch.nn.utils.clip_grad_norm_(params, MOST)
        optimizer.step()
        return [a - p.detach() for a, p in zip(old, params, strict=True)]


def inner(a: list[Tensor], b: list[Tensor]) -> float:
    return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("size", [0.5, 4.0])
@pytest.mark.parametrize("case", CASES)
def test_the_clip_factor_and_its_own_derivative_are_in_v(case: str, size: float) -> None:
    """⟨v, d⟩ is how ⟨∂L_meta/∂θ, u⟩ changes as the gradient before clipping moves by d."""
    here = Prepared(case, size)
    x = torch.autograd.grad(here.meta_loss(here.model, here.inputs), here.params)
    clip = Clip(here.norm, MOST)
    at = direction(here.problem, here.inputs, clip=clip)
    assert at.slope == pytest.approx(inner(list(x), at.v), rel=1e-6)
    unclipped = direction(here.problem, here.inputs)
    step = 1e-6
    # Along the gradient itself too: there the norm takes back what the factor gave.
    for towards in (*([torch.randn_like(p) for p in here.params] for _ in range(3)), here.raw):
        ends = [
            here.update([g + s * step * d for g, d in zip(here.raw, towards, strict=True)])
            for s in (1, -1)
        ]
        found = (inner(list(x), ends[0]) - inner(list(x), ends[1])) / (2 * step)
        size_of = (inner(at.v, at.v) * inner(towards, towards)) ** 0.5
        assert inner(at.v, towards) == pytest.approx(found, abs=1e-5 * size_of)
        if size > 1:
            wrong = inner(unclipped.v, towards)
            assert wrong != pytest.approx(found, abs=1e-3 * size_of)


def test_of_released_gradients_the_factor_counts_alone() -> None:
    size = 4.0
    here = Prepared("adam", size)
    plain = direction(here.problem, here.inputs, release_gradients=True)
    here = Prepared("adam", size)
    at = direction(here.problem, here.inputs, release_gradients=True, clip=Clip(here.norm, MOST))
    for scaled, v in zip(at.v, plain.v, strict=True):
        torch.testing.assert_close(scaled, v / size, rtol=1e-5, atol=0)
    assert at.slope == pytest.approx(float(plain.slope) / size, rel=1e-5)


def test_the_norm_is_of_parameters_that_the_meta_loss_does_not_reach_too() -> None:
    here = Prepared("sgd", 4.0)
    here.problem.meta_loss = lambda model, batch: model[0](batch[0]).square().mean()
    at = direction(here.problem, here.inputs, clip=Clip(here.norm, MOST))
    assert len(at.v) == len(here.params)
    assert float(at.v[-1].abs().max()) > 0
