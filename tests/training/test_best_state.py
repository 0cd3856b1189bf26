"""Of several states the best is kept, and looking leaves no trace."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from samacli.training.loop import fit
from samacli.training.runtime import make_accelerator
from tests.training.test_loop import Classifier, endless, problem, settings


@pytest.fixture
def accelerator() -> Any:
    return make_accelerator("cpu", "fp32")


class Scripted:
    """Gives the scores that it is told to, and remembers the states that it saw."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores
        self.states: list[dict[str, torch.Tensor]] = []

    def __call__(self, model: nn.Module) -> tuple[float, ...]:
        self.states.append(copy.deepcopy(model.state_dict()))
        torch.rand(7)  # as a validation may draw
        return (self.scores[len(self.states) - 1],)


def trained(accelerator: Any, steps: int, validate: Any) -> tuple[nn.Module, int]:
    x, y = problem(64, seed=0)
    torch.manual_seed(0)
    model = Classifier(dropout=0.5)
    config = settings(optimizer={"learning_rate": 0.05})
    run = fit(model, endless(x, y, 16), steps, config, accelerator, validate=validate)
    return model, run.best_step


def test_the_best_of_ten_states_is_restored_and_of_equals_the_first(accelerator: Any) -> None:
    script = Scripted([0.1, 0.2, 0.9, 0.3, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1])
    model, best_step = trained(accelerator, 30, script)
    assert len(script.states) == 10
    assert best_step == 9
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, script.states[2][name], rtol=0, atol=0)
        assert not torch.equal(value, script.states[-1][name])


def test_validation_leaves_no_trace_in_the_run(accelerator: Any) -> None:
    script = Scripted([float(i) for i in range(10)])  # the last is best
    watched, best_step = trained(accelerator, 20, script)
    alone, last_step = trained(accelerator, 20, None)
    assert best_step == last_step == 20
    for ours, theirs in zip(watched.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_run_of_few_steps_is_looked_at_after_each(accelerator: Any) -> None:
    script = Scripted([0.0, 0.0, 1.0])
    assert trained(accelerator, 3, script)[1] == 3
    assert len(script.states) == 3
