"""Schedules, parameter groups and optimisers by name, against torch's own."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from samacli.errors import SamaError
from samacli.meta import weighting_meta_gradient
from samacli.recipe import Optimizer, Training, load_recipe
from samacli.recipe.optimizers import state_buffers
from samacli.training.optim import make_optimizer, make_schedule
from tests.meta.problems import batch, weighting_problem


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


# Their steps need the loss itself, or gradients that are sparse.
NOT_FOR_TRAINING = {"lbfgs", "sparseadam"}
NAMES = sorted(
    name.lower()
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type)
    and issubclass(kind, torch.optim.Optimizer)
    and kind is not torch.optim.Optimizer
    and name.lower() not in NOT_FOR_TRAINING
)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_of_torch_trains_by_its_name_and_takes_a_meta_step(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16, bias=False), nn.Tanh(), nn.Linear(16, 4, bias=False))
    asked: dict[str, Any] = {"name": name, "learning_rate": 0.01}
    if name == "rprop":
        asked["weight_decay"] = 0.0
    if name == "adadelta":
        asked["learning_rate"] = 1.0
    config = load_recipe(None, values={"training.optimizer": asked}).training.optimizer
    optimizer = make_optimizer(model, config)
    assert type(optimizer).__name__.lower() == name
    problem = weighting_problem(model, optimizer, correct=False)
    data = batch("mlp", dtype=torch.float32)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = problem.base_loss(model, problem.meta, data)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.97 * losses[0]

    warned = {"rprop": "does not change with the size of the gradient"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = weighting_meta_gradient(problem, data, batch("mlp", dtype=torch.float32))
    said = [str(w.message) for w in caught if "forward" not in str(w.message)]
    assert [warned[name] in words for words in said] == ([True] if name in warned else [])
    assert all(g.isfinite().all() for g in found)
    assert any(g.any() for g in found)


def test_a_sign_update_falls_back_to_sama_without_adaptation() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    config = Optimizer(name="Rprop", weight_decay=0, learning_rate=0.01)
    problem = weighting_problem(model, make_optimizer(model, config), correct=False)
    data, meta = batch("mlp", dtype=torch.float32), batch("mlp", dtype=torch.float32)
    problem.base_loss(model, problem.meta, data).backward()
    problem.optimizer.step()
    with pytest.warns(UserWarning, match="going on without adaptation, as sama-na"):
        ours = weighting_meta_gradient(problem, data, meta, method="sama")
    theirs = weighting_meta_gradient(problem, data, meta, method="sama-na")
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_arguments_reach_the_class_and_fused_steps_are_taken_where_there_are_any() -> None:
    def group(**config: Any) -> dict[str, Any]:
        optimizer = make_optimizer(nn.Linear(3, 4), Optimizer.model_validate(config))
        return optimizer.param_groups[0]

    adam = group(name="Adam", arguments={"betas": [0.5, 0.9], "amsgrad": True})
    assert (adam["betas"], adam["amsgrad"], adam["fused"]) == ((0.5, 0.9), True, True)
    assert group()["fused"]
    assert not group(arguments={"foreach": True})["fused"]
    assert "fused" not in group(name="NAdam")
    sgd = group(name="sgd", nesterov=True, arguments={"foreach": False})
    assert (sgd["momentum"], sgd["nesterov"], sgd["fused"]) == (0.9, True, None)
    assert not group(name="sgd", momentum=0, nesterov=True)["nesterov"]


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        ("{name: adamm}", "torch.optim has no optimiser 'adamm'; did you mean 'adam'?"),
        ("{name: Optimizer}", "torch.optim has no optimiser 'optimizer'"),
        ("{name: adam, arguments: {beta: 1}}", "takes no argument 'beta'; did you mean 'betas'?"),
        ("{name: adam, arguments: {params: 1}}", "takes no argument 'params'"),
        ("{name: adam, arguments: {lr: 1}}", "arguments.lr has a key of its own: learning_rate"),
        ("{name: sgd, arguments: {momentum: 0.1}}", "has a key of its own: momentum"),
        ("{arguments: {betas: [0.5, 1.5]}}", "AdamW can't be used so: Invalid beta"),
        ("{name: Rprop, weight_decay: 0.1}", "Rprop has no weight decay; set weight_decay: 0"),
        ("{name: LBFGS, weight_decay: 0}", "evaluates the loss several times a step"),
        ("{name: SparseAdam, weight_decay: 0}", "does not support dense gradients"),
    ],
)
def test_what_torch_lacks_is_refused_before_training(optimizer: str, said: str) -> None:
    with pytest.raises(SamaError) as error:
        load_recipe(None, [f"training.optimizer={optimizer}"])
    assert "training.optimizer: " in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_parameters_that_an_optimiser_refuses_are_one_sentence() -> None:
    config = Optimizer(name="muon")
    with pytest.raises(SamaError, match=r"Muon can't train this model: .*2D.*model\.freeze"):
        make_optimizer(nn.Linear(3, 4), config)


@pytest.mark.parametrize("name", ["adamw", "sgd", "adafactor", "rmsprop", "radam"])
def test_state_is_counted_as_it_is(name: str) -> None:
    config = Optimizer(name=name)
    model = nn.Linear(64, 64, bias=False)
    optimizer = make_optimizer(model, config)
    model(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    kept = sum(
        value.numel()
        for value in optimizer.state[model.weight].values()
        if isinstance(value, torch.Tensor) and value.dim() > 0
    )
    assert state_buffers(name, config.given) == kept / model.weight.numel()
    expected = {"adamw": 2, "sgd": 1, "rmsprop": 1, "radam": 2, "adafactor": 2 / 64}
    assert kept / model.weight.numel() == expected[name]
