"""It says when nothing was learnt, and is silent where something was."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from samacli.methods.learnt import not_learnt
from samacli.recipe import load_recipe

CLASSES = ["neg", "pos", "rare"]


@dataclass
class Measured:
    accuracy: list[float] = field(default_factory=list)
    recall: list[dict[str, float]] = field(default_factory=list)
    curves: list[Any] = field(default_factory=list)


def measured(guess: np.ndarray, true: np.ndarray, losses: np.ndarray) -> Measured:
    recall = {c: float((guess[true == i] == i).mean()) for i, c in enumerate(CLASSES)}
    curve = [(step, float(loss), float("nan")) for step, loss in enumerate(losses)]
    return Measured([float((guess == true).mean())], [recall], [curve])


def experiment(test: np.ndarray, clean: list[tuple[str, int]] = ()) -> Any:  # type: ignore[assignment]
    meta = SimpleNamespace(
        content=np.array([text for text, _ in clean], dtype=object).astype(str),
        labels=np.array([label for _, label in clean], dtype=np.int64),
    )
    splits = SimpleNamespace(
        test=SimpleNamespace(labels=test), meta=meta if clean else None, classes=CLASSES
    )
    recipe = load_recipe(None, ["training.steps=47", "training.optimizer.learning_rate=5e-5"])
    return SimpleNamespace(splits=splits, recipe=recipe, steps=47)


def weights(*values: float) -> Any:
    return SimpleNamespace(weight=np.array(values))


TEST = np.repeat([0, 1, 2], [150, 120, 30])
FALLING, FLAT = np.linspace(1.1, 0.4, 47), np.full(47, 1.1)
UNEQUAL = weights(0.2, 1.0, 1.8)


def test_a_constant_answer_is_told_with_what_to_do() -> None:
    found = not_learnt(experiment(TEST), {
        "noisy": measured(np.zeros_like(TEST), TEST, FALLING),
        "sama": measured(TEST, TEST, FALLING),
    }, UNEQUAL)  # fmt: skip
    assert found == [
        "noisy learnt nothing: no better on the test rows than always to say 'neg' (0.500); take "
        "more steps (--epochs, or training.steps, which is 47) or another learning rate (--lr, "
        "which is 5e-05)"
    ]


def test_a_model_for_the_rare_class_at_the_same_accuracy_has_learnt() -> None:
    guess = np.where(TEST == 2, 2, 0)
    guess[:30] = 1  # as many wrong elsewhere: accuracy is that of the constant answer
    assert (guess == TEST).mean() == (TEST == 0).mean()
    assert not_learnt(experiment(TEST), {"sama": measured(guess, TEST, FALLING)}, UNEQUAL) == []


def test_a_loss_that_did_not_fall_is_told_of_all_that_have_it() -> None:
    flat = measured(TEST, TEST, FLAT)
    found = not_learnt(experiment(TEST), {"noisy": flat, "mixed": flat, "clean": flat}, UNEQUAL)
    assert len(found) == 1
    assert found[0].startswith("the training loss of noisy, mixed and clean did not fall; take ")
    # A few steps have no tenths to compare.
    short = measured(TEST, TEST, FLAT[:5])
    assert not_learnt(experiment(TEST), {"noisy": short}, UNEQUAL) == []


def test_a_clean_set_that_contradicts_itself() -> None:
    clean = [("a", 0), ("a", 1), ("b", 0), ("b", 0), ("c", 2)]
    found = not_learnt(experiment(TEST, clean), {}, UNEQUAL)
    assert len(found) == 1
    assert "2 of its rows have another label" in found[0]
    assert not_learnt(experiment(TEST, clean[1:]), {}, UNEQUAL) == []


@pytest.mark.parametrize(("values", "alike"), [((1.0, 1.0, 1.0, 0.0), True), ((0.5, 1.5), False)])
def test_weights_that_are_all_alike(values: tuple[float, ...], alike: bool) -> None:
    found = not_learnt(experiment(TEST), {}, weights(*values))
    assert bool(found) == alike
    assert all("the weights are all alike" in one for one in found)
