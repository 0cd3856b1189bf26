"""How many labels are wrong, and which, against data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split

from samacli.pruning.label_noise import LabelNoise, estimate_label_noise, noise_rate

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
    found, error = noise_rate(posterior, given)
    assert found == pytest.approx((true != given).mean(), abs=max(2 * error, 0.02))


def test_where_it_does_not_the_estimate_is_an_upper_bound_which_clean_rows_mend() -> None:
    true, posterior = overlapping(3.0, rows=20_000)
    given = mislabelled(true, 0.2, 4)
    rate = (true != given).mean()
    bound, _ = noise_rate(posterior[10_000:], given[10_000:])
    assert bound > rate + 0.1
    mended, error = noise_rate(
        posterior[10_000:], given[10_000:], posterior[:10_000], true[:10_000]
    )
    assert mended == pytest.approx(rate, abs=2 * error)
    assert 0.005 < error < 0.03
    none, error = noise_rate(posterior[10_000:], true[10_000:], posterior[:10_000], true[:10_000])
    assert none < 2 * error


def test_a_model_that_knows_nothing_tells_nothing() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), 900)
    labels = generator.integers(0, 4, 900)
    assert noise_rate(probabilities, labels)[0] == 1.0
    one_class = np.tile([0.7, 0.1, 0.1, 0.1], (900, 1)) + 1e-3 * probabilities
    mostly = np.where(generator.random(900) < 0.8, 0, labels)
    assert noise_rate(one_class, mostly)[0] == 1.0, "it guesses the largest class"


def of_digits(rate: float) -> tuple[LabelNoise, np.ndarray]:
    """By a library's model: the rate from rows held out, the losses from rows learnt."""
    digits = load_digits()
    given = mislabelled(digits.target, rate, 10)
    data = digits.data / 16
    seen, unseen = train_test_split(np.arange(len(given)), test_size=1 / 3, random_state=0)
    model = LogisticRegression(C=0.01, max_iter=300).fit(data[seen], given[seen])
    estimated = sum(noise_rate(model.predict_proba(data[unseen]), given[unseen]))
    model.fit(data, given)
    losses = -model.predict_log_proba(data)[np.arange(len(given)), given]
    return estimate_label_noise(losses, estimated), given != digits.target


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
    found = estimate_label_noise(losses, wrong.mean())
    own, other = 0.7 * norm(0, 0.8).pdf(losses), 0.3 * norm(3, 1).pdf(losses)
    tail = losses < -1.5  # where the wider one has the larger density, and the truth is clear
    exact = np.where(tail, 1.0, own / (own + other))
    assert np.abs(found.right - exact).mean() < 0.01
    assert np.abs(found.right - exact).max() < 0.1


def test_larger_losses_never_make_a_label_surer() -> None:
    generator = np.random.default_rng(0)
    losses = np.concatenate([generator.normal(0, 3, 500), generator.normal(4, 0.3, 200)])
    right = estimate_label_noise(losses, 0.3).right[np.argsort(losses)]
    assert (np.diff(right) <= 1e-12).all()


def test_no_more_labels_are_doubted_than_are_wrong_at_most() -> None:
    losses = np.random.default_rng(0).exponential(size=1000)
    own = estimate_label_noise(losses, 1.0)
    assert 0.05 < own.rate < 0.95
    for at_most in (0.001, own.rate / 2, (own.rate + 1) / 2):
        found = estimate_label_noise(losses, at_most)
        assert found.rate == pytest.approx(min(at_most, own.rate))
        assert 1 - found.right.mean() == pytest.approx(found.rate, abs=1e-6)
    assert estimate_label_noise(losses, 0.0).trusted.all()


def test_rows_without_a_label_are_neither_right_nor_trusted() -> None:
    losses = np.random.default_rng(0).exponential(size=400)
    known = np.arange(400) % 4 != 0
    found = estimate_label_noise(np.where(known, losses, np.nan), 0.2)
    assert np.isnan(found.right[~known]).all()
    assert not found.trusted[~known].any()
    np.testing.assert_allclose(found.right[known], estimate_label_noise(losses[known], 0.2).right)


@pytest.mark.parametrize("losses", [[], [1.0], [2.0] * 50, [np.nan] * 20])
def test_losses_that_say_nothing_leave_the_rate(losses: list[float]) -> None:
    right = estimate_label_noise(np.array(losses), 0.1).right
    np.testing.assert_allclose(right, np.where(np.isnan(losses), np.nan, 0.9))
