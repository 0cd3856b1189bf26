"""Where the host runs ahead of the device, as on a GPU: tried on the CPU, whose fused optimisers
skip steps in the same way."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from samacli.bilevel.history import ExampleHistory
from samacli.bilevel.level import MetaLevel
from samacli.data.loader import Loader
from samacli.errors import SamaError
from samacli.training import loop
from samacli.training.average import MovingAverage
from samacli.training.step import Step
from tests.store.test_recovery import Net, level_of, train
from tests.training.test_loop import problem


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def switch() -> None:
        monkeypatch.setattr(loop, "_runs_ahead", lambda *_: True)

    return switch


def values(modules: list[Any]) -> list[Tensor]:
    return [value for module in modules for value in module.state_dict().values()]


@pytest.mark.parametrize("spoilt", [False, True])
@pytest.mark.parametrize("kind", ["plain", "weights", "unroll", "history", "correction"])
def test_a_run_ahead_of_the_device_is_the_run_that_waits(
    kind: str, spoilt: bool, ahead: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = MetaLevel.begin

    def fused(self: MetaLevel, *arguments: Any, **settings: Any) -> None:
        # λ's update by the kernel that a GPU's is by: its last digits differ from the other's, and
        # Adam makes a great deal of them where a gradient is near 0.
        begin(self, *arguments, **settings)
        for group in self.optimizer.param_groups:
            group.update(fused=True, foreach=False)

    monkeypatch.setattr(MetaLevel, "begin", fused)
    rtol = 1e-6
    x, labels = problem(64, seed=1)
    x = x.clone()
    if spoilt:
        x[5] = torch.nan
    waited, waited_level, _ = train(kind, rows=(x, labels))
    ahead()
    run, level, _ = train(kind, rows=(x, labels))
    assert run.skipped_steps == waited.skipped_steps == (3 if spoilt else 0)
    ours: list[Any] = [run.model]
    theirs: list[Any] = [waited.model]
    if level is not None and waited_level is not None:
        ours += [run.averaged, level.reweighter]
        theirs += [waited.averaged, waited_level.reweighter]
        assert torch.equal(level.history.visits, waited_level.history.visits)
        assert all(value.isfinite().all() for value in values(ours))
        if spoilt:
            return  # a bad step's meta step comes to nothing, but its clean rows have been taken
        torch.testing.assert_close(
            level.history.weights, waited_level.history.weights, rtol=rtol, atol=rtol
        )
        if level.facts.losses is not None and waited_level.facts.losses is not None:
            assert torch.equal(level.facts.losses.visited, waited_level.facts.losses.visited)
    for one, other in zip(values(ours), values(theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol)
    for (step, loss, meta), (other_step, other_loss, other_meta) in zip(
        run.curve, waited.curve, strict=True
    ):
        assert step == other_step
        assert loss == pytest.approx(other_loss, rel=rtol, nan_ok=True)
        if math.isfinite(other_loss):
            assert meta == pytest.approx(other_meta, rel=rtol, nan_ok=True)


def test_too_many_bad_steps_in_a_row_still_end_the_run(ahead: Callable[[], None]) -> None:
    x, labels = problem(64, seed=1)
    ahead()
    with pytest.raises(SamaError, match=r"became nan at step 12 and 12 steps in a row"):
        train("plain", rows=(x * torch.nan, labels), make=lambda: Net(0.0))


class Asked(TorchDispatchMode):
    """Notes each operation for which the host would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(function)
        if any(word in name for word in ("_local_scalar_dense", "nonzero", "aten.equal")):
            self.found.append(name)
        if "aten.index" in name and "index_add" not in name and "index_select" not in name:
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            self.found += [name] * len(masks)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["plain", "weights"])
def test_no_step_asks_the_device_for_a_number(
    kind: str, ahead: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meta step's direction and its ride included; that all rows have a label is known."""
    ahead()
    asked = Asked()
    gradients, after = Step.__call__, MetaLevel.after_step

    def watched(self: Step, batches: Any) -> Any:
        with asked:
            return gradients(self, batches)

    def watched_after(self: MetaLevel, *arguments: Any) -> Any:
        self.beliefs = None  # those settle once a run
        with asked:
            return after(self, *arguments)

    def opened(self: Loader) -> Any:
        with _disable_current_modes():  # its iterator's seed is drawn on the host
            return iter_(self)

    iter_ = Loader.__iter__
    monkeypatch.setattr(Loader, "__iter__", opened)
    monkeypatch.setattr(Step, "__call__", watched)
    monkeypatch.setattr(MetaLevel, "after_step", watched_after)
    made = level_of

    def every_row(kind: str) -> MetaLevel:
        level = made(kind)
        level._every_row = True
        return level

    monkeypatch.setattr("tests.store.test_recovery.level_of", every_row)
    train(kind, make=lambda: Net(dropout=0.0))
    # Once a run: that λ scales the rows of ∂J/∂o alone.
    assert len(asked.found) == (1 if kind == "weights" else 0), asked.found


def test_the_moving_average_is_torchs_own_with_a_ramp() -> None:
    torch.manual_seed(0)
    model = Net()
    ours = MovingAverage(model, 0.9)
    theirs = AveragedModel(
        copy.deepcopy(model),
        multi_avg_fn=lambda a, b, n: get_ema_multi_avg_fn(min(0.9, (1 + int(n)) / (10 + int(n))))(
            a, b, n
        ),
        use_buffers=True,
    )
    for step in range(40):
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        model(torch.randn(6, 8))  # batch norm's buffers
        ours.update_parameters(model)
        theirs.update_parameters(model)
        if step == 20:
            kept = ours.state_dict()
            ours = MovingAverage(Net(), 0.9)
            ours.load_state_dict(kept)
    for one, other in zip(values([ours]), values([theirs]), strict=True):
        assert torch.equal(one, other)


def test_what_a_bad_batch_would_add_to_the_history_is_left_out() -> None:
    history = ExampleHistory(4, 2, targets=True)
    index, weights = torch.tensor([1, 1, 3]), torch.tensor([0.5, torch.nan, 2.0])
    targets = torch.full((3, 2), torch.nan)
    history.add(index, weights, targets, good=torch.tensor(False))
    assert not history.visits.any()
    assert history.mean_weights(torch.full((4,), 7.0).numpy()).tolist() == [7.0] * 4
    history.add(index, torch.ones(3), torch.ones(3, 2), good=torch.tensor(True))
    assert history.visits.tolist() == [0, 2, 0, 1]
