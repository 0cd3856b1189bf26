"""Which case a run is in, and when that is dangerous."""

from __future__ import annotations

import numpy as np
import pytest

from samacli.pruning.diagnosis import diagnose
from samacli.pruning.noise_rate import NoiseRate

LOSS = np.random.default_rng(0).exponential(size=200)


def test_weights_that_rise_with_the_loss_keep_what_is_hard() -> None:
    found = diagnose(0.5 + 0.25 * LOSS, LOSS, doubted=None)
    assert (found.case, found.correlation) == ("keeps hard", pytest.approx(1.0))
    assert found.slope == pytest.approx(0.25)
    assert found.warning is not None
    assert "prune.trust=auto" in found.warning
    assert "--meta FILE" in found.warning


def test_weights_that_fall_with_the_loss_clean() -> None:
    found = diagnose(2 - 0.1 * LOSS, LOSS, doubted=0.2)
    assert (found.case, found.correlation, found.warning) == ("cleans", pytest.approx(-1.0), None)
    assert found.sentence.endswith("; pruning takes 20% of them for wrong")


def test_weights_that_hardly_depend_on_the_loss_decide_nothing() -> None:
    assert diagnose(np.ones(200), LOSS, doubted=None).case == "undecided"


def test_doubted_labels_go_first_so_that_rising_weights_are_no_danger() -> None:
    assert diagnose(1 + LOSS, LOSS, doubted=0.2).warning is None
    assert diagnose(1 + LOSS, LOSS, doubted=None).warning is not None


def test_a_model_that_agrees_with_few_labels_is_warned_of_always() -> None:
    found = diagnose(1 + LOSS, LOSS, doubted=0.7)
    assert found.warning is not None
    assert "give a clean set" in found.warning


def test_rows_without_a_label_say_nothing() -> None:
    loss = np.append(LOSS, np.nan)
    assert diagnose(np.append(LOSS, 0.0), loss, doubted=None).correlation == 1.0


def test_what_is_not_known_is_not_claimed() -> None:
    known = NoiseRate(0.12, 0.19, 0.9, "given labels of clean rows", 300)
    unknown = NoiseRate(None, None, 0.9, "none", 0, "nothing tells")
    said = diagnose(1 + LOSS, LOSS, doubted=0.15, noise_rate=known).sentence
    assert "between 12% and 19% of the labels are wrong (90% interval, from 300 clean rows" in said
    said = diagnose(1 + LOSS, LOSS, doubted=1.0, noise_rate=unknown).sentence
    assert "how many labels are wrong is not known: nothing tells" in said
    assert "trusts all alike" in said
    assert "at most" not in said
