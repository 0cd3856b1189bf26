"""Calibrated probabilities that a given label is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from samacli.bilevel.beliefs import Calibration, calibrate


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
