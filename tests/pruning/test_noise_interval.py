"""What is claimed of the rate of wrong labels, on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from samacli.pruning.label_noise import Asked
from samacli.pruning.noise_rate import (
    NoiseRate,
    rate_from_given,
    rate_through_models,
)
from samacli.training.reliability import exact_interval
from tests.pruning.wrong import mislabelled


@pytest.mark.parametrize(("wrong", "rows"), [(0, 90), (3, 20), (60, 400), (20, 20)])
def test_the_interval_is_clopper_and_pearsons(wrong: int, rows: int) -> None:
    exact = binomtest(wrong, rows).proportion_ci(0.9, "exact")
    assert exact_interval(wrong / rows, rows, 0.9) == pytest.approx((exact.low, exact.high))


def test_clean_rows_that_carry_given_labels_count_directly() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 4, 5000)
    given = mislabelled(true, 0.3, 4)
    found = rate_from_given(given, given[:200], true[:200])
    assert found is not None
    wrong = int((given[:200] != true[:200]).sum())
    worth = 200 * 5000 / 5200  # the training rows' own rate is a draw, too
    assert (found.low, found.high) == pytest.approx(exact_interval(wrong / 200, worth, 0.9))
    assert (found.rows, found.level, found.source) == (200, 0.9, "given labels of clean rows")
    assert rate_from_given(given, np.full(200, -1), true[:200]) is None
    some = np.where(np.arange(200) < 60, given[:200], -1)
    assert rate_from_given(given, some, true[:200]).rows == 60  # type: ignore[union-attr]


def test_a_single_clean_row_is_no_interval() -> None:
    """Of one row it went from 0 % to 95 %, which tells nothing and looks as if it did."""
    import datasets

    from samacli.data import Split, Splits
    from samacli.pruning.noise_rate import known_noise_rate
    from samacli.recipe import Columns

    def split(name: str, count: int, told: np.ndarray | None = None) -> Split:
        rows = datasets.Dataset.from_dict({"text": [f"{name} {i}" for i in range(count)]})
        index = np.arange(count)
        content = index.astype(np.uint64) + (0 if name == "train" else 10**6)
        labels = index % 2
        return Split(name, rows, labels, None, index, content, name, given_labels=told)

    found = {}
    for known in (1, 2, 40):
        told = np.where(np.arange(60) < known, np.arange(60) % 2, -1)
        splits = Splits(
            "text-classification", Columns(), ["a", "b"], split("train", 400),
            meta=split("meta", 60, told), validation=None, test=None, notes=[],
        )  # fmt: skip
        found[known] = known_noise_rate(splits)
    assert found[1] is not None
    assert (found[1].low, found[1].high, found[1].rows) == (None, None, 1)
    assert found[1].sentence == (
        "how many labels are wrong is not known: only 1 clean row carries the label it was given, "
        "too few to tell"
    )
    assert found[40] is not None
    assert (found[40].low, found[40].source) == (0.0, "given labels of clean rows")
    assert "from 40 clean rows that carry the label they were given" in found[40].sentence
    one = NoiseRate(0.1, 0.2, 0.9, "given labels of clean rows", 1)
    assert one.sentence.endswith("from 1 clean row that carries the label it was given)")


def test_none_wrong_among_ninety_is_no_certainty() -> None:
    """The upper end is where none of 90 is seen with 5 %: 1 − 0.05^(1/90)."""
    labels = np.arange(900_000) % 3
    found = rate_from_given(labels, labels[:90], labels[:90])
    assert found is not None
    assert found.low == 0
    assert found.high == pytest.approx(1 - 0.05 ** (1 / 90), rel=1e-3)
    assert "between 0% and 3.3% of the labels are wrong" in found.sentence


def test_rows_drawn_evenly_by_class_are_weighted_as_the_classes_are() -> None:
    """Nine tenths are of a class with no wrong labels; of the other, half are wrong."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        true = (generator.random(20_000) < 0.1).astype(int)
        given = np.where((true == 1) & (generator.random(20_000) < 0.5), 0, true)
        clean = np.repeat([0, 1], 100)
        clean_given = np.where((clean == 1) & (generator.random(200) < 0.5), 0, clean)
        found = rate_from_given(given, clean_given, clean)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= (true != given).mean() <= found.high
        assert found.high < 0.15, "a quarter of the clean rows are wrong"
    assert held >= 48


def test_the_interval_holds_where_classes_err_unlike_and_rows_are_weighted() -> None:
    """Each of ten classes, the largest 100 times the smallest, is mistaken for the next one at a
    rate of its own; clean rows are drawn evenly. Without what the resampled say it held 2 of 3."""
    generator = np.random.default_rng(0)
    classes = np.arange(10)
    frequencies = 100 ** (-classes / 9) / (100 ** (-classes / 9)).sum()
    held = []
    for _ in range(100):
        true = np.append(generator.choice(10, 2000, p=frequencies), np.repeat(classes, 10))
        mistaken = generator.random(len(true)) < np.where(true % 2 == 0, 0.6, 0.2)
        given = np.where(mistaken, (true + 1) % 10, true)
        found = rate_from_given(given[:2000], given[2000:], true[2000:])
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held.append(found.low <= (given != true)[:2000].mean() <= found.high)
    assert np.mean(held) >= 0.8


def as_rule() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and given labels of two classes, and what a model says that learnt the rule."""
    generator = np.random.default_rng(0)
    true = generator.integers(0, 2, 6000)
    given = np.where(generator.random(6000) < 0.45, 1 - true, true)
    learnt = np.where(generator.random(6000) < 0.11, 1 - given, given)
    return true, given, np.eye(2)[learnt] * 0.98 + 0.01


def test_agreement_with_wrong_labels_that_can_be_learnt_is_no_evidence() -> None:
    """A model agrees with 89 % of the given labels, and with about half of 600 true ones."""
    true, given, said = as_rule()
    alone = rate_through_models([Asked(said[600:], given[600:])])
    assert alone.low is None
    assert "wrong labels that can be learnt are not" in alone.sentence
    found = rate_through_models([Asked(said[600:], given[600:], said[:600], true[:600])])
    assert found.low is not None
    assert found.high is not None
    assert 0.2 < found.low < (true != given).mean() < found.high < 0.7


def test_a_models_mistakes_widen_what_it_says() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 10, 4000)
    given = mislabelled(true, 0.2, 10)
    widths = []
    for mistaken in (0.02, 0.2, 0.9):
        guess = np.where(generator.random(4000) < mistaken, generator.integers(0, 10, 4000), true)
        said = np.eye(10)[guess]
        found = rate_through_models([Asked(said[500:], given[500:], said[:500], true[:500])])
        if mistaken == 0.9:
            assert found.low is None
            assert "too often to judge labels by" in found.sentence
            break
        assert found.low is not None
        assert found.high is not None
        assert found.low < (given != true).mean() < found.high
        widths.append(found.high - found.low)
    assert widths[0] < widths[1]


def test_without_clean_rows_it_says_why_nothing_is_known() -> None:
    generator = np.random.default_rng(0)
    chance = Asked(generator.dirichlet(np.ones(4), 900), generator.integers(0, 4, 900))
    assert "agrees with them by chance only" in rate_through_models([chance]).sentence
    labels = generator.integers(0, 4, 90)
    few = rate_through_models([Asked(np.eye(4)[labels], labels)])
    assert (few.low, few.high) == (None, None), "never 0 to 0"
    assert "only 90 were held out" in few.sentence
    assert "data.columns.true_label" in few.sentence


def test_bounds_from_elsewhere_are_moved_inside() -> None:
    known = NoiseRate(0.1, 0.2, 0.9, "given labels of clean rows", 300)
    assert known.narrow(0.0, 0.0) == (0.1, 0.1)
    assert known.narrow(0.05, 0.15) == (0.1, 0.15)
    assert known.narrow(0.3, 0.4) == (0.2, 0.2)
    assert NoiseRate(None, None, 0.9, "none", 0, "").narrow(0.3, 0.4) == (0.3, 0.4)


def test_it_holds_the_rate_of_just_these_rows() -> None:
    """As many clean rows as training rows: both rates are draws."""
    generator = np.random.default_rng(0)
    held = []
    for _ in range(300):
        true = generator.integers(0, 3, 1000)
        given = np.where(generator.random(1000) < 0.2, (true + 1) % 3, true)
        found = rate_from_given(given[:500], given[500:], true[500:])
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held.append(found.low <= (given[:500] != true[:500]).mean() <= found.high)
    assert 0.85 <= np.mean(held) <= 0.97


def test_too_few_clean_rows_of_each_class_say_nothing_through_a_model() -> None:
    generator = np.random.default_rng(0)
    true = (generator.random(4000) ** 6 * 50).astype(int)
    said = np.eye(50)[np.where(generator.random(4000) < 0.3, 0, true)]
    found = rate_through_models([Asked(said, true, np.eye(50), np.arange(50))])
    assert found.low is None
    assert "drawn unlike the training rows" in found.sentence
