"""How many labels are wrong, against data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import differential_evolution
from scipy.special import expit, logit
from scipy.stats import multivariate_normal

from samacli.pruning.label_noise import Asked, rate_of_lapses, rate_of_wrong_labels, surest_disagree
from tests.pruning.wrong import mislabelled

CENTRES = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0], [3.0, 3.0]])


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


def test_clean_rows_that_all_models_were_asked_about_count_once() -> None:
    """Two models that say the same of the same rows: twice the labels, but no more clean rows."""
    true, posterior = overlapping(5.0, rows=2500)
    given = mislabelled(true, 0.3, 4)
    noisy, clean = slice(0, 2000), (posterior[2000:], true[2000:])
    found = rate_of_lapses(2 * [Asked(posterior[noisy], given[noisy], *clean)])
    twice = np.repeat(posterior[noisy], 2, axis=0), np.repeat(given[noisy], 2)
    assert found == rate_of_lapses([Asked(*twice, *clean)])
    both = [np.repeat(of_clean, 2, axis=0) for of_clean in clean]
    assert np.ptp(found) > np.ptp(rate_of_lapses([Asked(*twice, *both)]))


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
