"""Which case a run is in, and when that is dangerous."""

from __future__ import annotations

import numpy as np
import pytest

from samacli.pruning.diagnosis import diagnose

LOSS = np.random.default_rng(0).exponential(size=200)


def test_weights_that_rise_with_the_loss_keep_what_is_hard() -> None:
    found = diagnose(0.5 + 0.25 * LOSS, LOSS, noise=None, guarded=False)
    assert (found.case, found.correlation) == ("keeps hard", pytest.approx(1.0))
    assert found.slope == pytest.approx(0.25)
    assert found.warning is not None
    assert "prune.trust=auto" in found.warning
    assert "--meta FILE" in found.warning


def test_weights_that_fall_with_the_loss_clean() -> None:
    found = diagnose(2 - 0.1 * LOSS, LOSS, noise=(0.2, 0.02), guarded=False)
    assert (found.case, found.correlation, found.warning) == ("cleans", pytest.approx(-1.0), None)
    assert "20.0% ± 2.0% of the labels are wrong" in found.sentence


def test_weights_that_hardly_depend_on_the_loss_decide_nothing() -> None:
    assert diagnose(np.ones(200), LOSS, noise=None, guarded=False).case == "undecided"


def test_wrong_labels_that_are_kept_are_warned_of_and_the_rate_is_named() -> None:
    rising = 1 + LOSS
    found = diagnose(rising, LOSS, noise=(0.2, 0.02), guarded=False)
    assert found.warning is not None
    assert "about 20% of the labels are wrong" in found.warning
    assert diagnose(rising, LOSS, noise=(0.02, 0.02), guarded=False).warning is None
    assert diagnose(rising, LOSS, noise=(0.2, 0.02), guarded=True).warning is None


def test_a_model_that_agrees_with_few_labels_is_warned_of_always() -> None:
    found = diagnose(1 + LOSS, LOSS, noise=(0.7, 0.02), guarded=True)
    assert found.warning is not None
    assert "give a clean set" in found.warning


def test_rows_without_a_label_say_nothing() -> None:
    loss = np.append(LOSS, np.nan)
    assert diagnose(np.append(LOSS, 0.0), loss, noise=None, guarded=True).correlation == 1.0
