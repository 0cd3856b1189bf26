"""Schedules and parameter groups, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from samacli.recipe import Optimizer, Training
from samacli.training.optim import make_optimizer, make_schedule


def rates(steps: int, warmup: float) -> list[float]:
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.4)
    config = Training(schedule="one-cycle", warmup=warmup)
    schedule = make_schedule(optimizer, config, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(("steps", "warmup"), [(100, 0.3), (40, 0.1), (7, 0.5)])
def test_one_cycle_is_torchs(steps: int, warmup: float) -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.4)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.4, total_steps=steps, pct_start=round(warmup * steps) / steps,
        cycle_momentum=False,
    )  # fmt: skip
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates(steps, warmup) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.9])
def test_one_cycle_in_a_run_of_a_few_steps(steps: int, warmup: float) -> None:
    found = rates(steps, warmup)
    assert all(0 < rate <= 0.4 for rate in found)
    assert max(found) == pytest.approx(0.4)


@pytest.mark.parametrize("asked", [False, True])
def test_biases_and_norms_decay_only_if_asked(asked: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    config = Optimizer(
        name="sgd", learning_rate=0.5, weight_decay=0.1, momentum=0, decay_norms=asked
    )
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = make_optimizer(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        decays = asked or new.ndim > 1
        torch.testing.assert_close(new.detach(), old * (1 - 0.5 * 0.1 * decays))
