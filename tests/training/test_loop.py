"""The loop against a loop written out by hand, and what the meta level makes of wrong labels."""

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
from samacli.bilevel.level import MetaLevel
from samacli.bilevel.reweighter import Reweighter
from samacli.meta import LabelCorrector
from samacli.recipe import Meta, Optimizer, Training
from samacli.training.loop import _freeze_unused, fit
from samacli.training.metrics import noise_detection
from samacli.training.runtime import make_accelerator


class Classifier(nn.Module):
    """Two layers that speak like a transformers model."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 3))

    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(logits=self.net(x))


def problem(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, 8, generator=torch.Generator().manual_seed(99)) * 2
    labels = torch.randint(0, 3, (count,), generator=generator)
    return centres[labels] + torch.randn(count, 8, generator=generator), labels


def endless(x: Tensor, y: Tensor, size: int, seed: int = 0) -> Iterator[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        for rows in torch.randperm(len(x), generator=generator).split(size):
            yield {"x": x[rows], "labels": y[rows], "index": rows}


def settings(**values: Any) -> Training:
    return Training.model_validate(
        {"precision": "fp32", "warmup": 0.25, "clip_norm": 0.5, "ema_decay": 0.9, **values}
    )


@pytest.fixture
def accelerator() -> Any:
    return make_accelerator("cpu", "fp32")


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_plain_training_is_what_one_would_write_by_hand(optimizer: str, accelerator: Any) -> None:
    config = settings(
        optimizer={"name": optimizer, "learning_rate": 0.05, "weight_decay": 0.1}, schedule="linear"
    )
    x, y = problem(64, seed=0)
    torch.manual_seed(0)
    model = Classifier()
    by_hand = copy.deepcopy(model)
    steps = 20
    fit(model, endless(x, y, 16), steps, config, accelerator)

    decayed = [p for p in by_hand.parameters() if p.ndim > 1]
    others = [p for p in by_hand.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    step = (
        torch.optim.AdamW(groups, lr=0.05)
        if optimizer == "adamw"
        else torch.optim.SGD(groups, lr=0.05, momentum=0.9)
    )
    for t, batch in enumerate(itertools.islice(endless(x, y, 16), steps)):
        rate = 0.05 * (t / 5 if t < 5 else (steps - t) / (steps - 5))
        for group in step.param_groups:
            group["lr"] = rate
        step.zero_grad()
        nn.functional.cross_entropy(by_hand.net(batch["x"]), batch["labels"]).backward()
        nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
        step.step()
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_accumulated_batches_are_one_large_batch(accelerator: Any) -> None:
    x, y = problem(64, seed=0)
    torch.manual_seed(0)
    model = Classifier()
    other = copy.deepcopy(model)
    sgd = {"name": "sgd", "learning_rate": 0.05}
    fit(model, endless(x, y, 32), 6, settings(optimizer=sgd), accelerator)
    fit(other, endless(x, y, 8), 6, settings(optimizer=sgd, accumulation=4), accelerator)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_weight_of_zero_is_as_if_the_example_were_not_there(accelerator: Any) -> None:
    x, y = problem(64, seed=0)
    damaged = y.clone()
    damaged[::2] = (damaged[::2] + 1) % 3
    weights = torch.ones(64)
    weights[::2] = 0.0
    weights *= 2  # half are gone, so the mean over the batch halves

    def weighted() -> Iterator[dict[str, Tensor]]:
        while True:
            yield {"x": x, "labels": damaged, "index": torch.arange(64), "sample_weight": weights}

    def clean() -> Iterator[dict[str, Tensor]]:
        while True:
            yield {"x": x[1::2], "labels": y[1::2], "index": torch.arange(32)}

    torch.manual_seed(0)
    model = Classifier()
    other = copy.deepcopy(model)
    sgd = settings(optimizer=Optimizer(name="sgd", learning_rate=0.05).model_dump())
    fit(model, weighted(), 6, sgd, accelerator)
    fit(other, clean(), 6, sgd, accelerator)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def bilevel(
    accelerator: Any,
    *,
    features: list[str],
    correction: bool = False,
    accumulation: int = 1,
    steps: int = 150,
    **meta: Any,
) -> tuple[MetaLevel, Tensor, Tensor, Any]:
    """Train on 30 % wrong labels with 60 clean examples; (level, given, true, fit)."""
    torch.manual_seed(0)
    x, true = problem(400, seed=1)
    given = true.clone()
    wrong = torch.randperm(400)[:120]
    given[wrong] = (given[wrong] + 1) % 3
    clean_x, clean_y = problem(60, seed=2)
    config = Meta.model_validate({"learning_rate": 0.02, **meta})
    reweighter = Reweighter(
        features,  # type: ignore[arg-type]
        3,
        corrector=LabelCorrector(3) if correction else None,
        standardize=config.standardize,
    )
    level = MetaLevel(
        config,
        reweighter,
        batches=endless(clean_x, clean_y, 30, seed=5),
        history=ExampleHistory(400, 3, targets=correction),
    )
    model = Classifier(dropout=0.1)
    training = settings(
        optimizer={"name": "adamw", "learning_rate": 0.01}, accumulation=accumulation
    )
    run = fit(model, endless(x, given, 50), steps, training, accelerator, meta_level=level)
    return level, given, true, run


@pytest.mark.parametrize("method", ["sama", "sama-na"])
@pytest.mark.parametrize("derivative", ["central", "one-sided", "forward", "contraction"])
def test_wrong_labels_lose_weight(method: str, derivative: str, accelerator: Any) -> None:
    level, given, true, run = bilevel(
        accelerator, features=["loss", "label"], method=method, derivative=derivative
    )
    weights = level.history.mean_weights(otherwise=torch.ones(400).numpy())
    found = noise_detection(given.numpy(), true.numpy(), weights)
    assert found is not None
    assert found["average_precision"] > 0.9, "chance is 0.3"
    assert run.averaged is not None
    assert len(run.curve) == 150


def test_what_is_learnt_does_not_depend_on_how_the_derivative_is_taken(accelerator: Any) -> None:
    learnt = {
        derivative: list(
            bilevel(accelerator, features=["loss", "label"], derivative=derivative)[
                0
            ].reweighter.parameters()
        )
        for derivative in ("contraction", "forward", "central")
    }
    for other in ("forward", "central"):
        for ours, theirs in zip(learnt["contraction"], learnt[other], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.02)


def test_a_layer_without_a_rule_costs_a_pass_of_its_own_and_nothing_else(
    accelerator: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    monkeypatch.setattr(nn, "Linear", Own)
    with caplog.at_level("INFO", logger="samacli.bilevel.level"):
        level, given, true, _ = bilevel(accelerator, features=["loss", "label"])
    assert "no rule for Own" in caplog.text
    weights = level.history.mean_weights(otherwise=torch.ones(400).numpy())
    found = noise_detection(given.numpy(), true.numpy(), weights)
    assert found is not None
    assert found["average_precision"] > 0.9


def test_accumulated_batches_are_all_remembered(accelerator: Any) -> None:
    level, *_ = bilevel(accelerator, features=["loss"], accumulation=2, steps=40)
    assert level.history.visits.sum() == 20 * 2 * 50


def test_uncertainty_and_unroll_work_together(accelerator: Any) -> None:
    level, given, true, _ = bilevel(accelerator, features=["loss", "uncertainty"], unroll=3)
    weights = level.history.mean_weights(otherwise=torch.ones(400).numpy())
    found = noise_detection(given.numpy(), true.numpy(), weights)
    assert found is not None
    assert found["auroc"] > 0.8


def test_correction_learns_the_true_labels(accelerator: Any) -> None:
    level, given, true, _ = bilevel(accelerator, features=["loss", "label"], correction=True)
    corrected = level.history.mean_targets(otherwise=torch.zeros(400, 3).numpy()).argmax(-1)
    before = (given == true).float().mean()
    assert (torch.from_numpy(corrected) == true).float().mean() > before + 0.05


def test_meta_steps_wait_for_the_warm_up_and_the_unroll(accelerator: Any) -> None:
    level, *_ = bilevel(accelerator, features=["loss"], unroll=5, warmup=0.5)
    due = [step for step in range(1, 101) if level.due(step, 100)]
    assert due == list(range(55, 100, 5)), "none after the last step, where nothing follows"


def test_examples_without_a_label_take_no_part(accelerator: Any) -> None:
    level, *_ = bilevel(accelerator, features=["loss", "label"])
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator)
    labels = torch.tensor([0, -1, 2, -1, 1, 0])
    batch = {"labels": labels, "index": torch.arange(6)}
    some = labels >= 0
    alone = {"labels": labels[some], "index": torch.arange(6)[some]}
    torch.testing.assert_close(
        level.objective(level.reweighter, logits, batch),
        level.objective(level.reweighter, logits[some], alone),
    )
    nothing = {"labels": torch.full((6,), -1), "index": torch.arange(6)}
    assert level.objective(level.reweighter, logits, nothing).item() == 0.0


def test_standardised_features_part_the_weights_of_losses_that_are_alike(
    accelerator: Any,
) -> None:
    level, given, true, _ = bilevel(accelerator, features=["loss"], standardize=True)
    weights = level.history.mean_weights(otherwise=torch.ones(400).numpy())
    found = noise_detection(given.numpy(), true.numpy(), weights)
    assert found is not None
    assert found["average_precision"] > 0.9, "chance is 0.3"
    one = Evidence(torch.randn(1, 3), torch.tensor([0]))
    assert torch.isfinite(level.reweighter(one)[0]).all(), "a batch of one has no deviation"


def test_what_the_logits_do_not_depend_on_is_frozen_and_nothing_else() -> None:
    model = Classifier(dropout=0.5)
    model.pooler = nn.Linear(8, 8)
    before = torch.get_rng_state()
    _freeze_unused(model, {"x": torch.randn(4, 8, generator=torch.Generator().manual_seed(0))})
    assert torch.equal(before, torch.get_rng_state())
    assert [p.requires_grad for p in model.pooler.parameters()] == [False, False]
    assert all(p.requires_grad for p in model.net.parameters())
