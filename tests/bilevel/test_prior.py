"""Beliefs on a fixed representation against scikit-learn and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from samacli.bilevel.prior import Mixture, fit_linear_belief, fit_mixture
from samacli.meta.label_corrector import label_likelihood

CLASSES, FEATURES = 4, 24
START = Mixture(gate=1 / 3, temperature=2 / 3)
NONE = torch.zeros(0, FEATURES), torch.zeros(0, dtype=torch.long)


def clusters(count: int, seed: int, apart: float) -> tuple[Tensor, Tensor]:
    """Features (count, FEATURES) on a scale of their own, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    centres = apart * torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    x = centres[labels] + torch.randn(count, FEATURES, generator=generator)
    return 5 + 3 * x, labels


def flipped(labels: Tensor, rate: float, seed: int) -> tuple[Tensor, Tensor]:
    """Each class confused with the next; (given labels, log P(given | true))."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand(len(labels), generator=generator) < rate
    eye = torch.eye(CLASSES)
    table = (1 - rate) * eye + rate * eye.roll(1, 0)
    return torch.where(wrong, (labels + 1) % CLASSES, labels), table.clamp_min(1e-4).log()


def test_trusted_labels_give_what_logistic_regression_gives() -> None:
    x, y = clusters(400, seed=0, apart=1.5)
    other, _ = clusters(400, seed=1, apart=1.5)
    belief = fit_linear_belief(x, y, *NONE, torch.eye(CLASSES).clamp_min(1e-4).log())
    reference = LogisticRegression(max_iter=2000).fit(x.numpy(), y.numpy())
    for inputs in (x, other):
        torch.testing.assert_close(belief(inputs).exp().sum(-1), torch.ones(400))
        agree = belief(inputs).argmax(-1).numpy() == reference.predict(inputs.numpy())
        assert agree.mean() > 0.99


def test_knowing_how_labels_go_wrong_beats_taking_them_at_their_word() -> None:
    x, true = clusters(1500, seed=0, apart=0.5)
    test_x, test_y = clusters(2000, seed=1, apart=0.5)
    given, log_likelihood = flipped(true, rate=0.45, seed=2)

    def accuracy(table: Tensor) -> float:
        belief = fit_linear_belief(x, given, *NONE, table)
        return float((belief(test_x).argmax(-1) == test_y).double().mean())

    plain = LogisticRegression(max_iter=2000).fit(x.numpy(), given.numpy())
    taken_at_their_word = accuracy(torch.eye(CLASSES).clamp_min(1e-4).log())
    known = accuracy(log_likelihood)
    assert known > plain.score(test_x.numpy(), test_y.numpy()) + 0.05
    assert known > taken_at_their_word + 0.05


def test_examples_without_a_given_label_say_nothing() -> None:
    x, true = clusters(300, seed=0, apart=0.7)
    given, log_likelihood = flipped(true, rate=0.3, seed=1)
    alone = fit_linear_belief(x, given, *NONE, log_likelihood)
    # The same features once more move neither mean nor, to speak of, deviation.
    silent = torch.full((300,), -1)
    beside = fit_linear_belief(torch.cat([x, x]), torch.cat([given, silent]), *NONE, log_likelihood)
    torch.testing.assert_close(beside(x).exp(), alone(x).exp(), rtol=0, atol=0.01)


def test_clean_labels_alone_are_enough() -> None:
    x, y = clusters(300, seed=0, apart=1.5)
    silent = torch.full((300,), -1)
    prior = label_likelihood(silent, silent, torch.full((CLASSES,), 1 / CLASSES))
    belief = fit_linear_belief(x, silent, x[:40], y[:40], prior)
    assert (belief(x).argmax(-1) == y).double().mean() > 0.9


def test_neither_given_nor_clean_labels_leave_an_even_belief() -> None:
    x, _ = clusters(20, seed=0, apart=1.0)
    belief = fit_linear_belief(x, torch.full((20,), -1), *NONE, torch.zeros(CLASSES, CLASSES))
    torch.testing.assert_close(belief(x).exp(), torch.full((20, CLASSES), 1 / CLASSES))


def test_clean_rows_tell_classes_apart_that_given_labels_mix_up() -> None:
    x, true = clusters(600, seed=0, apart=0.7)
    test_x, test_y = clusters(2000, seed=1, apart=0.7)
    clean_x, clean_y = clusters(60, seed=2, apart=0.7)
    given, log_likelihood = flipped(true, rate=0.5, seed=3)

    def accuracy(rows: int) -> float:
        belief = fit_linear_belief(x, given, clean_x[:rows], clean_y[:rows], log_likelihood)
        return float((belief(test_x).argmax(-1) == test_y).double().mean())

    alone = LogisticRegression(max_iter=2000).fit(clean_x.numpy(), clean_y.numpy())
    assert accuracy(60) > accuracy(0)
    assert accuracy(60) > alone.score(test_x.numpy(), test_y.numpy())


def test_a_constant_feature_and_a_second_call_change_nothing() -> None:
    x, y = clusters(200, seed=0, apart=1.0)
    table = torch.eye(CLASSES).clamp_min(1e-4).log()
    once, again = (fit_linear_belief(x, y, *NONE, table) for _ in range(2))
    assert torch.equal(once.weight, again.weight)
    wider = torch.cat([x, torch.full((200, 1), 7.0)], dim=1)
    none = torch.zeros(0, FEATURES + 1), NONE[1]
    torch.testing.assert_close(
        fit_linear_belief(wider, y, *none, table)(wider), once(x), rtol=1e-3, atol=1e-3
    )


def opinions(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(log-probabilities that know the class, others that do not, classes)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    knowing = torch.randn(count, CLASSES, generator=generator)
    knowing += 2.0 * torch.nn.functional.one_hot(labels, CLASSES)
    noise = 2 * torch.randn(count, CLASSES, generator=generator)
    return knowing.log_softmax(-1), noise.log_softmax(-1), labels


def test_the_belief_that_knows_is_chosen() -> None:
    knowing, noise, labels = opinions(400, seed=0)
    assert fit_mixture(knowing, noise, labels, START).gate > 0.85
    assert fit_mixture(noise, knowing, labels, START).gate < 0.15


@pytest.mark.parametrize("count", [5, 40, 400])
def test_a_mixture_is_the_penalised_optimum(count: int) -> None:
    knowing, noise, labels = opinions(count, seed=1)
    found = fit_mixture(knowing, noise, labels, START)
    p, pi, y = (x.double().numpy() for x in (knowing, noise, labels))
    start = np.log([START.gate / START.temperature, (1 - START.gate) / START.temperature])

    def loss(logs: np.ndarray) -> float:
        a, b = np.exp(logs)
        logits = a * p + b * pi
        log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        likelihood = log_p[np.arange(count), y.astype(int)].sum()
        return float(-likelihood + 5 * np.square(logs - start).sum())

    a, b = np.exp(minimize(loss, start).x)
    assert found.gate == pytest.approx(a / (a + b), abs=0.01)
    assert found.temperature == pytest.approx(1 / (a + b), rel=0.02)


def test_overconfident_beliefs_are_cooled() -> None:
    knowing, _, labels = opinions(500, seed=2)
    shouted = (4 * knowing).log_softmax(-1)
    found = fit_mixture(shouted, shouted, labels, START)
    assert found.temperature > 2 * START.temperature


def test_few_labels_move_a_mixture_little() -> None:
    moved = [
        math.log(fit_mixture(*opinions(count, seed=3), START).gate / START.gate)
        for count in (1, 3, 400)
    ]
    assert 0 < moved[0] < moved[1] < moved[2]
    assert moved[0] < 0.3 * moved[2]


def test_a_model_that_goes_on_learning_is_trusted_more_than_when_it_was_judged() -> None:
    judged = Mixture(gate=0.2, temperature=0.5)
    trusted = judged.trusting_the_model()
    assert trusted.gate / trusted.temperature == pytest.approx(1.0)
    assert (1 - trusted.gate) / trusted.temperature == pytest.approx(0.8 / 0.5 / 2)
    sure = Mixture(gate=0.9, temperature=0.5).trusting_the_model()
    assert sure.gate / sure.temperature == pytest.approx(1.8), "no less than it was worth"
