"""A step in parts, of several batches or of several processes gives what one batch gives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samacli.bilevel import slopes
from samacli.bilevel.features import Facts, LossHistory
from samacli.bilevel.history import ExampleHistory
from samacli.bilevel.level import CleanRows, MetaLevel
from samacli.bilevel.reweighter import Reweighter
from samacli.meta import DataParallel, LabelCorrector
from samacli.pruning.scores import MeanLoss
from samacli.recipe import Meta
from samacli.training.loop import Fit, fit
from samacli.training.runtime import make_accelerator
from tests.meta.replicas import run_replicas
from tests.store.test_recovery import Net, Small
from tests.training.test_loop import endless, problem, settings

ROWS, STEPS = 16, 8
KINDS = ["weights", "standardised", "correction", "slopes"]


class Watched(MetaLevel):
    """Keeps each step's meta gradient."""

    def begin_step(self, *, alone: bool) -> None:
        super().begin_step(alone=alone)
        self.alone = alone

    def _learn(self, step: int, good: Any) -> None:
        if self._gradients:
            self.found.append(torch.cat([g.flatten() for g in self._gradients]))
        super()._learn(step, good)
        if self.reweighter.slopes is not None and self.reweighter.slopes.gram.any():
            self.found.append(self.reweighter.slopes.gram.float().flatten())


def train(
    kind: str, *, size: int = ROWS, hook: Any = None, rank: int = 0, processes: int = 1
) -> tuple[Fit, Watched, Tensor]:
    """Steps of 16 rows in all; of these a pass is shown `size`, or what the hook lets through."""
    torch.manual_seed(0)
    x, labels = problem(64, seed=1)
    clean_x, clean_y = problem(30, seed=2)
    corrector = LabelCorrector(3) if kind == "correction" else None
    features: Any = ["loss", "label"] if kind != "standardised" else ["loss", "margin", "history"]
    level = Watched(
        # λ moves by little, so that what is compared is each step's gradient.
        Meta(
            learning_rate=1e-5, warmup=0.2, batch_size=10, standardize=kind == "standardised",
            derivative="forward" if corrector else "auto",
        ),
        Reweighter(
            features, 3, hidden=8, corrector=corrector, standardize=kind == "standardised",
            amortised=kind == "slopes", shares=torch.full((3,), 1 / 3),
        ),
        batches=endless(clean_x, clean_y, 10, seed=4),
        history=ExampleHistory(64, 3, targets=corrector is not None),
        facts=Facts(losses=LossHistory(64, torch.device("cpu"))),
        clean=CleanRows(0.5, 1.0),
        parallel=DataParallel() if processes > 1 else None,
        every_row=True,
    )  # fmt: skip
    for parameter in level.reweighter.parameters():  # weights that differ from the first step on
        nn.init.normal_(parameter, std=0.5)
    level.found = []

    def batches() -> Iterator[dict[str, Any]]:
        whole = endless(x, labels, ROWS, seed=3)
        beside = endless(clean_x, clean_y, 10, seed=5)
        for batch in whole:
            clean = next(beside)
            share = slice(rank * ROWS // processes, (rank + 1) * ROWS // processes)
            batch = {name: value[share] for name, value in batch.items()}
            for i in range(0, len(batch["x"]), size):
                yield {
                    **{name: value[i : i + size] for name, value in batch.items()},
                    "clean": clean,
                }

    mean_loss = MeanLoss(64)
    run = fit(
        Net(dropout=0.0, hook=hook), batches(), STEPS,
        settings(
            optimizer={"name": "sgd", "learning_rate": 0.05},
            accumulation=max(1, ROWS // processes // size),
        ),
        make_accelerator("cpu", "fp32"), meta_level=level, observers=[mean_loss],
    )  # fmt: skip
    level.history.sum_over(make_accelerator("cpu", "fp32"))
    return run, level, mean_loss.result()


def assert_same(kind: str, split: Any, whole: Any) -> None:
    (parameters, found, weights, scores), theirs = split, whole
    # A regression is solved on the way to the weights.
    rtol, atol = (1e-3, 1e-5) if kind == "slopes" else (1e-4, 1e-6)
    torch.testing.assert_close(parameters, theirs[0], rtol=rtol, atol=atol)
    assert len(found) == len(theirs[1]) >= 4
    for ours, other in zip(found, theirs[1], strict=True):
        assert other.norm() > 1e-6, "there is something to compare"
        assert (ours - other).norm() < 10 * rtol * other.norm()
    torch.testing.assert_close(weights, theirs[2], rtol=rtol, atol=atol)
    torch.testing.assert_close(scores, theirs[3], rtol=rtol, atol=10 * atol, equal_nan=True)


def facts(result: tuple[Fit, Watched, Tensor]) -> Any:
    run, level, scores = result
    parameters = torch.cat([p.detach().flatten() for p in run.model.parameters()])
    return parameters, level.found, level.history.weights, torch.as_tensor(scores)


@pytest.fixture(autouse=True)
def less_steep(monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs in the last digits is not to be made large by a steep weight function."""
    monkeypatch.setattr(slopes, "_TEMPERATURE", 2.0)


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_batches_down_to_single_rows(kind: str) -> None:
    """Weights that had mean 1 within each pass would all be 1 in passes of one row."""
    whole = train(kind)
    assert whole[1].alone
    for size in (8, 1):
        split = train(kind, size=size)
        assert not split[1].alone
        assert_same(kind, facts(split), facts(whole))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_where_memory_is_short(kind: str) -> None:
    whole, split = train(kind), train(kind, hook=Small(10))
    assert not split[1].alone
    assert_same(kind, facts(split), facts(whole))


def _replica(rank: int, kind: str) -> Any:
    slopes._TEMPERATURE = 2.0
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
        MASTER_PORT="29400", ACCELERATE_USE_CPU="true",
    )  # fmt: skip
    return facts(train(kind, size=ROWS // 2, rank=rank, processes=2))


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes(kind: str, tmp_path: Path) -> None:
    first, second = run_replicas(_replica, tmp_path, kind)
    torch.testing.assert_close(first[0], second[0], rtol=0, atol=0)
    assert_same(kind, first, facts(train(kind)))


class Nudged(MetaLevel):
    """Keeps what the base model and its learning rate are around each nudge."""

    def _nudge(self, good: Any) -> None:
        before = [p.detach().clone() for p in self._model.parameters()]
        rate = self._problem.optimizer.param_groups[0]["lr"]
        super()._nudge(good)
        after = [p.detach().clone() for p in self._model.parameters()]
        self.moves.append((before, after, rate, self.batches.last))


class Last:
    """Batches, of which the latest can be asked for."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches

    def __next__(self) -> Any:
        self.last = next(self._batches)
        return self.last


@pytest.mark.parametrize("nudge", [0.0, 0.7])
def test_a_nudge_is_a_part_of_a_step_along_the_clean_gradient(nudge: float) -> None:
    x, labels = problem(64, seed=1)
    clean_x, clean_y = problem(30, seed=2)
    level = Nudged(
        Meta(warmup=0.2, batch_size=10, nudge=nudge),
        Reweighter(["loss", "label"], 3, hidden=8),
        batches=Last(endless(clean_x, clean_y, 10, seed=4)),  # type: ignore[arg-type]
        history=ExampleHistory(64, 3, targets=False),
        every_row=True,
    )
    level.moves = []
    fit(
        Net(dropout=0.0), endless(x, labels, ROWS, seed=3), STEPS,
        settings(optimizer={"name": "sgd", "learning_rate": 0.05, "momentum": 0.0}, clip_norm=None),
        make_accelerator("cpu", "fp32"), meta_level=level,
    )  # fmt: skip
    assert len(level.moves) >= 5
    for before, after, rate, batch in level.moves:
        twin = Net(dropout=0.0)
        params = list(twin.parameters())
        with torch.no_grad():
            for parameter, value in zip(params, before, strict=True):
                parameter.copy_(value)
        loss = nn.functional.cross_entropy(twin(batch["x"]).logits, batch["labels"])
        gradients = torch.autograd.grad(loss, params, allow_unused=True)
        for start, end, gradient in zip(before, after, gradients, strict=True):
            step = 0.0 if gradient is None else nudge * rate * gradient
            # ∂u/∂g is kept in bfloat16.
            torch.testing.assert_close(
                start - end, torch.as_tensor(step).expand_as(start), rtol=5e-3, atol=1e-6
            )


class Seen(MetaLevel):
    """Keeps what the one meta step of a run is made of."""

    def _nudge(self, good: Any) -> None:
        self.theta = [p.detach().clone() for p in self._model.parameters()]
        self.rate = self._problem.optimizer.param_groups[0]["lr"]
        self.clean_batch = self.batches.last

    def _pass_along(self, at: Any, batch: Any, forward: Any) -> Any:
        self.met.append(batch)
        return super()._pass_along(at, batch, forward)


@pytest.mark.parametrize("size", [ROWS, 4])
def test_values_are_what_rows_do_to_the_clean_loss(size: int) -> None:
    """Against each row's own gradient, at the parameters of the one meta step."""
    x, labels = problem(64, seed=1)
    labels[::9] = -1
    clean_x, clean_y = problem(30, seed=2)
    level = Seen(
        Meta(warmup=0.1, batch_size=10, unroll=4),
        Reweighter(["loss", "label"], 3, hidden=8),
        batches=Last(endless(clean_x, clean_y, 10, seed=4)),  # type: ignore[arg-type]
        history=ExampleHistory(64, 3, targets=False),
    )
    level.met = []
    fit(
        Net(dropout=0.0), endless(x, labels, size, seed=3), STEPS,
        settings(
            optimizer={"name": "sgd", "learning_rate": 0.05, "momentum": 0.0}, clip_norm=None,
            accumulation=ROWS // size,
        ),
        make_accelerator("cpu", "fp32"), meta_level=level,
    )  # fmt: skip
    assert len(level.met) == ROWS // size, "one meta step"
    met = torch.cat([batch["index"] for batch in level.met])
    told = labels[met] >= 0
    twin = Net(dropout=0.0)
    params = list(twin.parameters())
    with torch.no_grad():
        for parameter, value in zip(params, level.theta, strict=True):
            parameter.copy_(value)

    def gradient(x: Tensor, y: Tensor) -> Tensor:
        loss = nn.functional.cross_entropy(twin(x).logits, y)
        found = torch.autograd.grad(loss, params, allow_unused=True)
        return torch.cat([g.flatten() for g in found if g is not None])

    clean = gradient(level.clean_batch["x"], level.clean_batch["labels"])
    expected = torch.full((64,), float("nan"))
    for row in met[told].tolist():
        own = gradient(x[row : row + 1], labels[row : row + 1])
        expected[row] = level.rate * (own @ clean) / told.sum()
    found = torch.from_numpy(level.history.in_run_values()).float()
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-6, equal_nan=True)
    assert expected.isfinite().sum() == told.sum() >= 12
