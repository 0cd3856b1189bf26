"""Class frequencies of data with wrong labels, against those the data were drawn with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from samacli.bilevel.frequencies import class_frequencies, drawn_evenly
from samacli.bilevel.prior import fit_linear_belief
from samacli.meta.label_corrector import label_likelihood

CLASSES, FEATURES = 4, 24
LONG_TAIL = torch.tensor([0.6, 0.2, 0.15, 0.05])


def drawn(labels: Tensor, seed: int) -> Tensor:
    """Features of the labels' classes, which overlap."""
    generator = torch.Generator().manual_seed(seed)
    centres = 0.8 * torch.randn(CLASSES, FEATURES, generator=torch.Generator().manual_seed(99))
    return 5 + 3 * (centres[labels] + torch.randn(len(labels), FEATURES, generator=generator))


def weakly_labelled(frequencies: Tensor, seed: int, count: int = 2000) -> tuple[Tensor, ...]:
    """Features, given and true labels; half of the given ones are wrong, mostly class 3."""
    generator = torch.Generator().manual_seed(seed)
    true = frequencies.multinomial(count, replacement=True, generator=generator)
    wrong = torch.tensor([0.1, 0.1, 0.1, 0.7]).multinomial(count, True, generator=generator)
    given = torch.where(torch.rand(count, generator=generator) < 0.5, wrong, true)
    return drawn(true, seed), given, true


def evenly(per_class: int) -> tuple[Tensor, Tensor]:
    labels = torch.arange(CLASSES).repeat(per_class)
    return drawn(labels, seed=7), labels


def clean_set(per_class: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features, true labels and log P(given | true) from given labels that the rows carry too."""
    x, y = evenly(per_class)
    generator = torch.Generator().manual_seed(8)
    wrong = torch.tensor([0.1, 0.1, 0.1, 0.7]).multinomial(len(y), True, generator=generator)
    given = torch.where(torch.rand(len(y), generator=generator) < 0.5, wrong, y)
    return x, y, label_likelihood(given, y, torch.tensor([0.1, 0.1, 0.1, 0.7]), shrink=1.0)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().sum())


@pytest.mark.parametrize("per_class", [5, 20])
def test_it_is_nearer_than_even_and_than_the_given_labels(per_class: int) -> None:
    features, given, true = weakly_labelled(LONG_TAIL, seed=0)
    x, y, likelihood = clean_set(per_class)
    found = class_frequencies(features, given, x, y, likelihood)
    assert found is not None
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    truth = torch.bincount(true, minlength=CLASSES) / len(true)
    at_large = torch.bincount(given, minlength=CLASSES) / len(given)
    even = torch.full((CLASSES,), 1 / CLASSES)
    assert distance(found, truth) < 0.6 * min(distance(even, truth), distance(at_large, truth))


def test_even_data_stay_even_whatever_wrong_labels_lean_to() -> None:
    even = torch.full((CLASSES,), 1 / CLASSES)
    features, given, _ = weakly_labelled(even, seed=1)
    found = class_frequencies(features, given, *clean_set(20))
    assert found is not None
    assert distance(found, even) < 0.2


def test_rows_without_a_given_label_say_nothing() -> None:
    features, given, _ = weakly_labelled(LONG_TAIL, seed=2)
    clean = clean_set(10)
    beside = torch.cat([given, torch.full_like(given, -1)])
    alone = class_frequencies(features, given, *clean)
    found = class_frequencies(torch.cat([features, features]), beside, *clean)
    assert alone is not None
    assert found is not None
    torch.testing.assert_close(found, alone, atol=2e-3, rtol=0)


def test_without_given_labels_or_with_one_clean_row_of_a_class_there_is_no_estimate() -> None:
    features, given, _ = weakly_labelled(LONG_TAIL, seed=3, count=100)
    x, y, likelihood = clean_set(5)
    assert class_frequencies(features, torch.full_like(given, -1), x, y, likelihood) is None
    rows = torch.cat([torch.arange(4), torch.nonzero(y != 3).flatten()[4:]])
    assert class_frequencies(features, given, x[rows], y[rows], likelihood) is None


@pytest.mark.parametrize(
    ("counts", "even"),
    [
        ([10, 10, 10, 10], True),
        ([10, 10, 10, 8], True),
        ([60, 60], True),
        ([59, 61], False),
        ([12, 7, 11, 10], False),
        ([100, 160, 140, 20], False),
        ([0, 0], False),
    ],
)
def test_only_counts_too_even_for_chance_were_drawn_evenly(counts: list[int], even: bool) -> None:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    assert drawn_evenly(labels, len(counts)) is even


def test_an_offset_teaches_the_frequencies_that_clean_rows_do_not_show() -> None:
    x, y = evenly(50)
    silent = torch.full((len(y),), -1)
    offset = -LONG_TAIL.log() - torch.tensor(float(CLASSES)).log()
    nothing = torch.zeros(CLASSES, CLASSES)
    plain = fit_linear_belief(x, silent, x, y, nothing)
    shifted = fit_linear_belief(x, silent, x, y, nothing, offset)
    other, _, true = weakly_labelled(LONG_TAIL, seed=4)

    def mean_loss(belief: object) -> float:
        assert callable(belief)
        return float(torch.nn.functional.nll_loss(belief(other), true))

    assert mean_loss(shifted) < mean_loss(plain)
