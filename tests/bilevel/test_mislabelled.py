"""Calibrated probabilities that a given label is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from samacli.bilevel.calibration import Calibrated, Calibration, calibrate, calibrated
from samacli.training.reliability import reliability


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def skewed(count: int, seed: int, slope: float, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """(raw probabilities, wrong), where log-odds are `slope` times what they should be, and off."""
    generator = np.random.default_rng(seed)
    odds = generator.normal(-0.5, 1.5, count)
    return sigmoid(slope * odds + offset), generator.random(count) < sigmoid(odds)


@pytest.mark.parametrize(("slope", "offset"), [(4.0, 0.0), (1.0, 2.5), (3.0, -2.0)])
def test_skewed_probabilities_are_put_right(slope: float, offset: float) -> None:
    calibration = calibrate(*skewed(200, 0, slope, offset))
    raw, wrong = skewed(5000, 1, slope, offset)
    right = sigmoid((np.log(raw / (1 - raw)) - offset) / slope)
    before, after, best = (brier_score_loss(wrong, p) for p in (raw, calibration(raw), right))
    assert after < before - 0.02
    assert after < best + 0.01


@given(st.integers(10, 60), st.integers(0, 1000), st.sampled_from([-3.0, -0.3, 0.0, 0.3, 1.0, 5.0]))
def test_the_order_is_never_reversed(count: int, seed: int, slope: float) -> None:
    raw, wrong = skewed(count, seed, slope, 0.0)
    grid = np.linspace(0, 1, 101)
    corrected = calibrate(raw, wrong)(grid)
    assert (np.diff(corrected) >= 0).all()
    assert ((corrected >= 0) & (corrected <= 1)).all()


def test_a_fit_that_would_turn_the_order_round_changes_nothing() -> None:
    raw, wrong = skewed(500, 0, -2.0, 0.0)
    assert calibrate(raw, wrong) == Calibration()


@pytest.mark.parametrize(
    ("count", "wrong"), [(0, []), (9, [True] + 8 * [False]), (40, 40 * [True]), (40, 40 * [False])]
)
def test_too_few_examples_or_all_alike_change_nothing(count: int, wrong: list[bool]) -> None:
    calibration = calibrate(np.linspace(0.1, 0.9, count), np.array(wrong, dtype=bool))
    grid = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(calibration(grid), grid)


def test_certain_probabilities_stay_finite() -> None:
    raw = np.array([0.0, 1.0] * 10)
    calibration = calibrate(raw, np.array([False, True] * 9 + [True, False]))
    assert np.isfinite(calibration(raw)).all()
    assert calibration(np.array([0.0]))[0] < 0.5 < calibration(np.array([1.0]))[0]


def of_score(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are too sure by half, and which labels are wrong."""
    return skewed(count, seed, 2.0, 1.0)


def test_calibrated_probabilities_come_true_as_often_as_they_say() -> None:
    raw, wrong = of_score(5000, 1)
    clean_raw, clean_wrong = of_score(600, 2)
    found = calibrated(raw, clean_raw, clean_wrong, np.ones(600))
    assert isinstance(found, Calibrated)
    before, after = reliability(raw, wrong), reliability(found.probability, wrong)
    assert before is not None
    assert after is not None
    assert before.ece > 0.08 > 0.04 > after.ece
    own = reliability(found.checked, found.wrong, found.weight, fitted=True)
    assert own is not None
    assert own.low - 0.03 <= after.ece <= own.high + 0.03
    without = calibrated(raw, clean_raw[:490], clean_wrong[:490], np.ones(490))
    assert isinstance(without, str)
    assert "it takes 500 in all" in without


def test_a_score_that_does_not_tell_is_not_calibrated() -> None:
    raw, wrong = skewed(600, 0, -1.0, 0.0)
    assert "do not score higher" in calibrated(raw, raw, wrong, np.ones(600))  # type: ignore[operator]


def test_rows_that_were_drawn_unlike_count_by_their_weight() -> None:
    """Half as many wrong labels among the training rows as among the clean."""
    clean_raw, clean_wrong = of_score(2000, 2)
    weight = np.where(clean_wrong, 0.3, 1.0)
    found = calibrated(clean_raw, clean_raw, clean_wrong, weight / weight.mean())
    assert isinstance(found, Calibrated)
    expected = np.average(clean_wrong, weights=weight)
    assert np.average(found.probability, weights=weight) == pytest.approx(expected, abs=0.02)


def test_the_calibration_error_of_exact_probabilities_is_none_but_for_chance() -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(100):
        probability = generator.random(300)
        one = reliability(probability, generator.random(300) < probability)
        assert one is not None
        found.append(one.ece)
    assert np.mean(found) < 0.045, "the gaps of the bins alone come to 0.07"


def test_the_calibration_error_is_the_gap() -> None:
    generator = np.random.default_rng(0)
    probability = generator.random(20_000) * 0.8 + 0.1
    wrong = generator.random(20_000) < probability - 0.1
    found = reliability(np.append(probability, np.nan), np.append(wrong, True))
    assert found is not None
    assert found.ece == pytest.approx(0.1, abs=0.01)
    assert found.low < 0.1 < found.high
    assert found.rows == 20_000
    assert len(found.bins) == 10
    assert all(one.low <= one.wrong <= one.high for one in found.bins)
    assert reliability(probability[:30], wrong[:30]) is None
