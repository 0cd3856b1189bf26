"""Clean rows at the base level, and which rows the averaged model is asked about."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samacli.bilevel.features import Evidence
from samacli.bilevel.history import ExampleHistory
from samacli.bilevel.level import CleanRows, MetaLevel, averaged_logits
from samacli.bilevel.reweighter import Reweighter
from samacli.meta import LabelCorrector
from samacli.recipe import Meta, Optimizer
from samacli.recipe.schema import Feature
from samacli.training.loop import _freeze_unused, fit
from samacli.training.runtime import make_accelerator
from tests.training.test_loop import Classifier, endless, problem, settings

SHARE = 0.3


@pytest.fixture
def accelerator() -> Any:
    return make_accelerator("cpu", "fp32")


class Settling:
    """Beliefs that note what they are settled by."""

    of_train = None

    def __init__(self, settled: list[nn.Module]) -> None:
        self.settle = settled.append

    def state_dict(self) -> None:
        pass

    def load_state_dict(self, state: None) -> None:
        pass


def meta_level(
    settled: list[nn.Module] | None = None,
    *,
    features: tuple[Feature, ...] = ("loss", "label"),
    correction: bool = False,
    until: float = 0.5,
    **meta: Any,
) -> MetaLevel:
    """With clean rows in the base loss; `settled` gathers what `settle` is called with."""
    torch.manual_seed(0)
    clean_x, clean_y = problem(60, seed=2)
    reweighter = Reweighter(
        features, 3, hidden=16, corrector=LabelCorrector(3) if correction else None
    )
    return MetaLevel(
        Meta.model_validate({"learning_rate": 0.02, **meta}),
        reweighter,
        batches=endless(clean_x, clean_y, 30, seed=5),
        history=ExampleHistory(64, 3, targets=correction),
        clean=CleanRows(SHARE, until),
        beliefs=None if settled is None else Settling(settled),
    )


def with_clean(given: Iterator[Any], clean: Iterator[Any]) -> Iterator[dict[str, Any]]:
    for batch, other in zip(given, clean, strict=False):
        yield {**batch, "clean": other}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_clean_rows_have_their_share_of_the_loss(accumulation: int, accelerator: Any) -> None:
    x, y = problem(64, seed=0)
    y = torch.where(torch.arange(64) % 5 == 0, -1, y)
    clean_x, clean_y = problem(24, seed=3)
    level = meta_level(warmup=0.99, until=0.05)
    model = Classifier()
    by_hand = copy.deepcopy(model)
    reweighter = copy.deepcopy(level.reweighter)
    steps, rate = 4, 0.05
    config = settings(
        optimizer=Optimizer(
            name="sgd", learning_rate=rate, momentum=0.0, weight_decay=0.0
        ).model_dump(),
        schedule="constant",
        warmup=0.0,
        clip_norm=None,
        accumulation=accumulation,
    )
    batches = with_clean(endless(x, y, 16), endless(clean_x, clean_y, 8, seed=1))
    run = fit(model, batches, steps, config, accelerator, meta_level=level)

    step = torch.optim.SGD(by_hand.parameters(), lr=rate)
    rows = itertools.islice(
        with_clean(endless(x, y, 16), endless(clean_x, clean_y, 8, seed=1)), steps * accumulation
    )
    losses = []
    for _ in range(steps):
        total, weight = torch.zeros(()), torch.zeros(())
        step_rows = list(itertools.islice(rows, accumulation))
        for batch in step_rows:  # the weights have mean 1 over the whole step
            told = batch["labels"] >= 0
            logits = by_hand.net(batch["x"])[told].detach()
            weight += reweighter.raw(Evidence(logits, batch["labels"][told]))[0].detach().mean()
        for batch in step_rows:
            told = batch["labels"] >= 0
            logits = by_hand.net(batch["x"])[told]
            labels = batch["labels"][told]
            each = nn.functional.cross_entropy(logits, labels, reduction="none")
            weights = reweighter.raw(Evidence(logits.detach(), labels))[0].detach()
            weights = weights / (weight / accumulation)
            certain = nn.functional.cross_entropy(
                by_hand.net(batch["clean"]["x"]), batch["clean"]["labels"]
            )
            total = total + (1 - SHARE) * (weights * each).mean() + SHARE * certain
        losses.append(float(total.detach()) / accumulation)
        step.zero_grad()
        (total / accumulation).backward()
        step.step()
    assert [loss for _, loss, _ in run.curve] == pytest.approx(losses, rel=1e-4)
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_an_offset_enters_what_both_levels_minimise() -> None:
    x, y = problem(30, seed=2)
    level = meta_level()
    level.offset = torch.tensor([0.5, 0.0, -2.0])
    model = Classifier()
    adjusted = nn.functional.cross_entropy(model.net(x) + level.offset, y)
    torch.testing.assert_close(level.clean_loss(model, {"x": x, "labels": y}), adjusted)


def test_only_given_rows_are_remembered(accelerator: Any) -> None:
    x, y = problem(64, seed=0)
    level = meta_level()
    batches = with_clean(endless(x, y, 16), endless(x, y, 8, seed=1))
    fit(Classifier(), batches, 8, settings(), accelerator, meta_level=level)
    assert level.history.visits.sum() == 4 * 16


def test_the_reweighter_learns_for_a_part_of_the_run_and_then_stays(accelerator: Any) -> None:
    settled: list[nn.Module] = []
    level = meta_level(settled, warmup=0.5, unroll=2, until=0.6)
    assert [step for step in range(1, 101) if level.due(step, 100)] == list(range(32, 61, 2))
    learnt = []
    after_step = level.after_step

    def watched(*arguments: Any, **options: Any) -> float:
        learnt.append([p.detach().clone() for p in level.reweighter.parameters()])
        return after_step(*arguments, **options)

    level.after_step = watched  # type: ignore[method-assign]
    x, y = problem(64, seed=0)
    batches = with_clean(endless(x, y, 16), endless(x, y, 8, seed=1))
    fit(Classifier(), batches, 20, settings(), accelerator, meta_level=level)
    assert len(settled) == 1, "settled once"

    def same(one: list[Tensor], other: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    assert same(learnt[0], learnt[5]), "before the warm-up is over nothing is learnt"
    assert not same(learnt[5], learnt[12])
    assert same(learnt[12], learnt[19]), "the last meta step shares the pass of step 13"


@pytest.mark.parametrize("correction", [False, True])
def test_rows_without_a_label_have_a_target_through_correction_alone(correction: bool) -> None:
    level = meta_level(correction=correction)
    labels = torch.tensor([0, -1, 2, -1])
    batch = {"labels": labels, "index": torch.arange(4)}
    rows = level.counted(batch)
    assert rows.tolist() == [True, correction, True, correction]
    logits = torch.randn(4, 3, requires_grad=True)
    level.objective(level.reweighter, logits, batch).backward()
    assert logits.grad is not None
    assert ((logits.grad.abs().sum(-1) > 0) == rows).all()


class Counting(nn.Module):
    """Logits that tell the row; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[float]] = []

    def forward(self, x: Tensor) -> Any:
        assert not self.training
        self.asked.append(x[:, 0].tolist())
        return SimpleNamespace(logits=x[:, :1] * torch.tensor([1.0, 10.0, 100.0]))


@pytest.mark.parametrize("chosen", [[1, 3, 4], [0, 1, 2, 3, 4], []])
def test_the_averaged_model_is_asked_about_the_rows_that_are_weighted(
    chosen: list[int], accelerator: Any
) -> None:
    x = torch.arange(1.0, 6.0)[:, None].expand(5, 2).contiguous()
    batch = {"x": x, "labels": torch.zeros(5, dtype=torch.long), "index": torch.arange(5)}
    rows = torch.zeros(5, dtype=torch.bool)
    rows[chosen] = True
    averaged = Counting().train()
    logits = averaged_logits(averaged, batch, rows.nonzero()[:, 0], accelerator)
    assert logits.shape == (5, 3)
    if not chosen:
        assert len(averaged.asked) == 1, "no model takes an empty batch"
        return
    assert averaged.asked == [[i + 1.0 for i in chosen]]
    expected = torch.zeros(5, 3)
    for i in chosen:
        expected[i] = (i + 1) * torch.tensor([1.0, 10.0, 100.0])
    torch.testing.assert_close(logits, expected)


def test_corrected_runs_go_on_where_a_batch_has_no_given_label(accelerator: Any) -> None:
    x, y = problem(32, seed=0)
    silent = torch.full_like(y, -1)
    for correction in (True, False):
        level = meta_level(correction=correction, features=("loss", "uncertainty"), warmup=0.0)
        batches = with_clean(endless(x, silent, 16), endless(x, y, 8, seed=1))
        run = fit(Classifier(), batches, 6, settings(), accelerator, meta_level=level)
        assert all(loss > 0 for _, loss, _ in run.curve)
        assert (level.history.visits[:32] > 0).all() == correction


def test_clean_rows_beside_a_batch_are_no_input_of_the_model() -> None:
    x, y = problem(4, seed=0)
    batch = {"x": x, "labels": y, "index": torch.arange(4)}
    model = Classifier()
    _freeze_unused(model, {**batch, "clean": dict(batch)})
    assert all(p.requires_grad for p in model.parameters())
