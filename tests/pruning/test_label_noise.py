"""How many labels are wrong, and which, against data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_predict

from samacli.pruning.label_noise import TRUSTED, LabelNoise, estimate_label_noise

CENTRES = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.0, 3.0]])


def symmetric(rate: float, classes: int) -> np.ndarray:
    transition = np.full((classes, classes), rate / (classes - 1))
    np.fill_diagonal(transition, 1 - rate)
    return transition


def drawn(transition: np.ndarray, true: np.ndarray, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.array([generator.choice(len(transition), p=transition[k]) for k in true])


def overlapping(
    transition: np.ndarray, rows: int = 4000
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """True and given labels of four Gaussians, log P(given | x), and P(the given one is right)."""
    generator = np.random.default_rng(0)
    true = generator.integers(0, 4, rows)
    points = CENTRES[true] + generator.normal(size=(rows, 2))
    likelihood = np.stack([multivariate_normal(centre).pdf(points) for centre in CENTRES], 1)
    clean = likelihood / likelihood.sum(1, keepdims=True)
    noisy = clean @ transition
    given = drawn(transition, true)
    every = np.arange(rows)
    right = clean[every, given] * np.diag(transition)[given] / noisy[every, given]
    return true, given, np.log(noisy), right


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_by_the_exact_noisy_posterior_it_finds_the_rate_and_the_posterior_of_a_right_label(
    rate: float,
) -> None:
    true, given, logits, right = overlapping(symmetric(rate, 4))
    found = estimate_label_noise(logits, given)
    assert found.rate == pytest.approx((true != given).mean(), abs=2 * found.error + 0.02)
    assert np.abs(found.right - right).mean() < 0.05
    assert (found.trusted == (right > TRUSTED)).mean() > 0.9


def test_overconfident_models_are_calibrated_first() -> None:
    _, given, logits, _ = overlapping(symmetric(0.2, 4))
    one, other = (estimate_label_noise(scale * logits, given) for scale in (1.0, 4.0))
    assert other.rate == pytest.approx(one.rate, abs=1e-3)
    np.testing.assert_allclose(other.right, one.right, atol=1e-2)


def test_what_is_hard_to_tell_is_not_taken_for_wrong() -> None:
    _, given, logits, _ = overlapping(np.eye(4))
    found = estimate_label_noise(logits, given)
    assert (logits.argmax(1) != given).mean() > 0.1, "the classes overlap"
    assert found.rate < 0.03
    assert found.trusted.mean() > 0.95


def test_which_class_is_confused_with_which() -> None:
    transition = np.eye(4)
    transition[1] = [0.0, 0.6, 0.4, 0.0]
    _, given, logits, _ = overlapping(transition)
    found = estimate_label_noise(logits, given)
    np.testing.assert_allclose(found.transition.sum(1), 1)
    off_diagonal = found.transition - np.diag(np.diag(found.transition))
    assert np.unravel_index(off_diagonal.argmax(), (4, 4)) == (1, 2)
    assert found.transition[1, 2] == pytest.approx(0.4, abs=0.1)


def of_digits(rate: float) -> tuple[LabelNoise, np.ndarray]:
    digits = load_digits()
    given = drawn(symmetric(rate, 10), digits.target)
    model = LogisticRegression(C=0.01, max_iter=300)
    # Real held-out predictions, of a library's model.
    probabilities = cross_val_predict(model, digits.data / 16, given, cv=3, method="predict_proba")
    return estimate_label_noise(np.log(probabilities), given), given != digits.target


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.4])
def test_wrong_digits_are_counted_and_found(rate: float) -> None:
    found, wrong = of_digits(rate)
    assert found.rate == pytest.approx(wrong.mean(), abs=0.06)
    if rate > 0:
        assert average_precision_score(wrong, -found.right) > 0.9
        assert wrong[found.trusted].mean() < wrong.mean() / 4
    else:
        assert found.trusted.mean() > 0.98


def test_probabilities_average_to_the_rate() -> None:
    found, _ = of_digits(0.2)
    assert 1 - found.right.mean() == pytest.approx(found.rate, abs=1e-6)


def test_rows_without_a_label_are_neither_right_nor_trusted() -> None:
    _, given, logits, _ = overlapping(symmetric(0.2, 4), rows=400)
    given[::4] = -1
    found = estimate_label_noise(logits, given)
    assert np.isnan(found.right[::4]).all()
    assert not found.trusted[::4].any()
    without = estimate_label_noise(logits[given >= 0], given[given >= 0])
    np.testing.assert_allclose(found.right[given >= 0], without.right)
