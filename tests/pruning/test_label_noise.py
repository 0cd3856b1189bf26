"""How many labels are wrong, and which, against data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import differential_evolution, minimize
from scipy.special import expit, logit
from scipy.stats import multivariate_normal, norm
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split

from samacli.pruning.label_noise import (
    Asked,
    LabelNoise,
    _posterior,
    estimate_label_noise,
    rate_of_lapses,
    rate_of_wrong_labels,
    surest_disagree,
)

CENTRES = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.0, 3.0]])


def mislabelled(true: np.ndarray, rate: float, classes: int, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    given = true.copy()
    hit = generator.random(len(true)) < rate
    given[hit] = (true[hit] + generator.integers(1, classes, hit.sum())) % classes
    return given


def overlapping(spread: float, rows: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """True labels of four Gaussians, and the exact P(label | x)."""
    generator = np.random.default_rng(0)
    true = generator.integers(0, 4, rows)
    points = CENTRES[true] + spread * generator.normal(size=(rows, 2))
    likelihood = np.stack(
        [multivariate_normal(centre, spread**2).pdf(points) for centre in CENTRES], 1
    )
    return true, likelihood / likelihood.sum(1, keepdims=True)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
def test_where_the_model_knows_the_task_it_finds_the_rate(rate: float) -> None:
    true, posterior = overlapping(1.0)
    given = mislabelled(true, rate, 4)
    found, error = surest_disagree(posterior, given)
    assert found == pytest.approx((true != given).mean(), abs=max(2 * error, 0.02))
    low, high = rate_of_wrong_labels([Asked(posterior, given)])
    assert low - 0.02 <= (true != given).mean() <= high + 0.02
    assert high - low < 0.06


@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_where_it_is_often_mistaken_it_tells_mistakes_from_wrong_labels(rate: float) -> None:
    true, posterior = overlapping(2.5, rows=20_000)
    given = mislabelled(true, rate, 4)
    wrong = (true != given).mean()
    mistaken = surest_disagree(posterior, true)[0]
    assert surest_disagree(posterior, given)[0] > wrong + mistaken / 2 > wrong + 0.03
    low, high = rate_of_wrong_labels([Asked(posterior, given)])
    assert low - 0.03 <= wrong <= high + 0.03
    assert high - low < 0.1


def test_clean_rows_narrow_what_a_model_that_is_never_sure_leaves_open() -> None:
    true, posterior = overlapping(5.0, rows=6000)
    given = mislabelled(true, 0.3, 4)[:3000]
    alone = Asked(posterior[:3000], given)
    low, high = rate_of_lapses([alone])
    assert high - low > 0.1
    low, high = rate_of_lapses([Asked(posterior[:3000], given, posterior[3000:], true[3000:])])
    assert low - 0.05 <= (true[:3000] != given).mean() <= high + 0.05
    assert high - low < 0.1
    none = Asked(posterior[:3000], given, posterior[:0], true[:0])
    assert rate_of_lapses([none]) == rate_of_lapses([alone])


def test_the_interval_is_that_of_the_likelihood_of_single_rows() -> None:
    true, posterior = overlapping(1.5, rows=1500)
    given = mislabelled(true, 0.25, 4)
    z = logit(posterior.max(1))
    z = (z - z.mean()) / z.std()
    agree = posterior.argmax(1) == given

    def loss(found: np.ndarray) -> float:
        right = expit(found[0] + np.exp(found[1]) * z)
        rate = np.clip((1 - found[2]) * right + found[2] * (1 - right) / 3, 1e-12, 1 - 1e-12)
        return float(-np.log(np.where(agree, rate, 1 - rate)).sum())

    best = differential_evolution(loss, [(-6, 6), (-4, 3), (0, 0.9)], seed=0, tol=1e-8)
    low, high = rate_of_lapses([Asked(posterior, given)])
    assert low <= best.x[2] <= high

    def above(rate: float) -> float:
        at = differential_evolution(
            lambda curve: loss(np.array([*curve, rate])), [(-6, 6), (-4, 3)], seed=0, tol=1e-8
        )
        return float(at.fun - best.fun)

    assert 0 < low < high < 0.9
    for end, beyond in ((low, low - 0.01), (high, high + 0.01)):
        assert above(end) < 0.55
        assert above(beyond) > 0.45


def test_more_models_of_the_same_labels_say_more() -> None:
    true, posterior = overlapping(3.0, rows=4000)
    given = mislabelled(true, 0.2, 4)
    parts = [Asked(posterior[k::4], given[k::4]) for k in range(4)]
    low, high = rate_of_wrong_labels(parts)
    assert high - low < np.mean([np.ptp(rate_of_wrong_labels([part])) for part in parts])
    assert low - 0.05 <= 0.2 <= high + 0.05


def test_without_evidence_no_label_is_taken_for_wrong() -> None:
    true, posterior = overlapping(0.5, rows=400)
    assert rate_of_wrong_labels([Asked(posterior, true)]) == (0.0, 0.0)


def test_a_model_that_knows_nothing_tells_nothing() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), 900)
    labels = generator.integers(0, 4, 900)
    assert surest_disagree(probabilities, labels)[0] == 1.0
    assert rate_of_wrong_labels([Asked(probabilities, labels)]) == (0.0, 1.0)
    one_class = np.tile([0.7, 0.1, 0.1, 0.1], (900, 1)) + 1e-3 * probabilities
    mostly = np.where(generator.random(900) < 0.8, 0, labels)
    assert surest_disagree(one_class, mostly)[0] == 1.0, "it guesses the largest class"


@pytest.mark.parametrize("rows", [1, 3])
def test_few_rows_and_certain_models_are_fine(rows: int) -> None:
    certain = np.eye(2)[np.arange(rows) % 2]
    low, high = rate_of_wrong_labels([Asked(certain, np.arange(rows) % 2)])
    assert 0 <= low <= high <= 1
    low, high = rate_of_lapses([Asked(np.ones((rows, 1)), np.zeros(rows, int))])
    assert 0 <= low <= high <= 1, "a single class"


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
