"""Which labels are wrong, against data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split

from samacli.pruning.label_noise import (
    Asked,
    LabelNoise,
    _posterior,
    estimate_label_noise,
    rate_of_wrong_labels,
)
from tests.pruning.wrong import mislabelled


def of_digits(rate: float) -> tuple[LabelNoise, np.ndarray]:
    """By a library's model: the rate from rows held out, the losses from rows learnt."""
    digits = load_digits()
    given = mislabelled(digits.target, rate, 10)
    data = digits.data / 16
    seen, unseen = train_test_split(np.arange(len(given)), test_size=1 / 3, random_state=0)
    model = LogisticRegression(C=0.01, max_iter=300).fit(data[seen], given[seen])
    asked = Asked(model.predict_proba(data[unseen]), given[unseen])
    model.fit(data, given)
    losses = -model.predict_log_proba(data)[np.arange(len(given)), given]
    return estimate_label_noise(losses, rate_of_wrong_labels([asked])), given != digits.target


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
def test_wrong_digits_are_counted_and_found(rate: float) -> None:
    found, wrong = of_digits(rate)
    assert -0.03 < found.rate - wrong.mean() < 0.08, "an upper bound, near the truth"
    if rate > 0:
        assert average_precision_score(wrong, -found.right) > 0.9
        assert wrong[found.trusted].mean() < wrong.mean() / 4
    else:
        assert found.trusted.mean() > 0.97


def test_two_gaussians_give_the_posterior_of_the_right_ones() -> None:
    generator = np.random.default_rng(0)
    wrong = generator.random(20_000) < 0.3
    losses = np.where(wrong, generator.normal(3, 1, 20_000), generator.normal(0, 0.8, 20_000))
    found = estimate_label_noise(losses, (0.25, 0.35))
    own, other = 0.7 * norm(0, 0.8).pdf(losses), 0.3 * norm(3, 1).pdf(losses)
    tail = losses < -1.5  # where the wider one has the larger density, and the truth is clear
    exact = np.where(tail, 1.0, own / (own + other))
    assert np.abs(found.right - exact).mean() < 0.01
    assert np.abs(found.right - exact).max() < 0.1


def test_a_long_tail_is_not_all_that_is_wrong_where_more_is() -> None:
    """Losses of right labels have one; a free mixture takes it for the second component."""
    generator = np.random.default_rng(0)
    wrong = generator.random(20_000) < 0.35
    right, late = generator.normal(0, 0.4, 20_000), 0.6 + generator.exponential(1.0, 20_000)
    losses = np.where(wrong, late, right)
    free = estimate_label_noise(losses, (0.0, 0.2))
    found = estimate_label_noise(losses, (0.32, 0.38))
    assert found.rate == pytest.approx(0.35, abs=0.04)
    assert 1 - found.right.mean() == pytest.approx(found.rate, abs=1e-6)
    assert (wrong & ~found.trusted).sum() > 1.2 * (wrong & ~free.trusted).sum()
    assert wrong[found.trusted].mean() < 0.75 * wrong[free.trusted].mean()


def test_a_bounded_mixture_is_the_likeliest_of_that_share() -> None:
    generator = np.random.default_rng(0)
    losses = np.concatenate([generator.normal(0, 1, 1400), generator.normal(2.5, 1.2, 600)])
    z = (losses - losses.mean()) / losses.std()
    inner = np.clip(z, *np.quantile(z, [0.02, 0.98]))

    def loss(at: np.ndarray) -> float:
        low, high = np.exp(at[2]), np.exp(at[3])
        density = 0.85 * norm.pdf(inner, at[0], low) + 0.15 * norm.pdf(inner, at[1], high)
        return float(-np.log(density).sum())

    at = minimize(loss, [-0.3, 1.5, -0.3, -0.3], method="Nelder-Mead", options={"maxiter": 4000}).x
    own = 0.85 * norm.pdf(z, at[0], np.exp(at[2]))
    exact = own / (own + 0.15 * norm.pdf(z, at[1], np.exp(at[3])))
    found = _posterior(z, 0.0, 0.15)
    np.testing.assert_allclose(found, exact, atol=0.01)


def test_larger_losses_never_make_a_label_surer() -> None:
    generator = np.random.default_rng(0)
    losses = np.concatenate([generator.normal(0, 3, 500), generator.normal(4, 0.3, 200)])
    right = estimate_label_noise(losses, (0.0, 0.3)).right[np.argsort(losses)]
    assert (np.diff(right) <= 1e-12).all()


def test_no_more_labels_are_doubted_than_are_wrong_at_most() -> None:
    losses = np.random.default_rng(0).exponential(size=1000)
    own = estimate_label_noise(losses, (0.0, 1.0))
    assert 0.05 < own.rate < 0.95
    for at_most in (0.001, own.rate / 2, (own.rate + 1) / 2):
        found = estimate_label_noise(losses, (0.0, at_most))
        assert found.rate == pytest.approx(at_most if at_most < own.rate else own.rate, abs=0.02)
        assert found.rate <= at_most
        assert 1 - found.right.mean() == pytest.approx(found.rate, abs=1e-6)
    assert estimate_label_noise(losses, (0.0, 0.0)).trusted.all()


def test_rows_without_a_label_are_neither_right_nor_trusted() -> None:
    losses = np.random.default_rng(0).exponential(size=400)
    known = np.arange(400) % 4 != 0
    found = estimate_label_noise(np.where(known, losses, np.nan), (0.0, 0.2))
    assert np.isnan(found.right[~known]).all()
    assert not found.trusted[~known].any()
    alone = estimate_label_noise(losses[known], (0.0, 0.2))
    np.testing.assert_allclose(found.right[known], alone.right)


@pytest.mark.parametrize("losses", [[], [1.0], [2.0] * 50, [np.nan] * 20])
def test_losses_that_say_nothing_leave_the_rate(losses: list[float]) -> None:
    right = estimate_label_noise(np.array(losses), (0.0, 0.1)).right
    np.testing.assert_allclose(right, np.where(np.isnan(losses), np.nan, 0.9))


def rare_and_hard() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses, labels and which are wrong: 15 % of 2,000 rows, and none of a rare, harder class."""
    generator = np.random.default_rng(0)
    wrong = np.append(generator.random(2000) < 0.15, np.zeros(25, bool))
    labels = np.repeat([0, 1], [2000, 25])
    losses = np.where(wrong, generator.normal(2.2, 0.8, 2025), generator.gamma(2, 0.3, 2025))
    return losses + 1.6 * labels, labels, wrong


def test_a_rare_class_that_is_learnt_late_is_not_taken_for_wrong() -> None:
    losses, labels, wrong = rare_and_hard()
    pooled = estimate_label_noise(losses, (0.1, 0.2))
    found = estimate_label_noise(losses, (0.1, 0.2), labels)
    rare, common = labels == 1, labels == 0
    assert pooled.trusted[rare].mean() < 0.2 < 0.8 < found.trusted[rare].mean()
    assert not found.doubted_classes
    assert found.rate == pytest.approx(pooled.rate, abs=0.02)
    for one in (pooled, found):
        assert wrong[common & one.trusted].mean() < 0.04, "others are told as before"


def test_a_class_with_more_wrong_labels_is_trusted_less() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 600)
    wrong = generator.random(1800) < np.array([0.05, 0.1, 0.6])[labels]
    losses = np.where(wrong, generator.normal(2.0, 0.8, 1800), generator.normal(0.5, 0.5, 1800))
    found = estimate_label_noise(losses, (0.2, 0.3), labels)
    rates = [float(1 - found.right[labels == k].mean()) for k in range(3)]
    assert rates == pytest.approx([0.05, 0.1, 0.6], abs=0.1)


def test_no_class_vanishes_and_one_that_nearly_does_is_told() -> None:
    losses, labels, _ = rare_and_hard()
    doubted = LabelNoise(0.2, np.where(labels == 1, 0.3 - losses / 100, 0.9), labels)
    assert doubted.doubted_classes == [1]
    kept = np.flatnonzero(doubted.trusted & (labels == 1))
    assert len(kept) == 10, "the surest"
    assert losses[kept].max() <= np.delete(losses[labels == 1], kept - 2000).min()
    without = LabelNoise(0.2, doubted.right)
    assert not without.trusted[labels == 1].any()


def test_classes_that_are_alike_are_taken_together() -> None:
    generator = np.random.default_rng(1)
    wrong = generator.random(4000) < 0.3
    losses = np.where(wrong, generator.normal(3, 1, 4000), generator.normal(0, 0.8, 4000))
    pooled = estimate_label_noise(losses, (0.25, 0.35))
    found = estimate_label_noise(losses, (0.25, 0.35), generator.integers(0, 5, 4000))
    assert np.abs(found.right - pooled.right).mean() < 0.02
