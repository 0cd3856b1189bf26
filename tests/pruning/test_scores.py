"""Each score against its formula, written out in numpy over every row's visits."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from samacli.pruning.scores import (
    AUM,
    CCS,
    DUAL,
    EL2N,
    Entropy,
    Forgetting,
    GraNd,
    LeastConfidence,
    Margin,
    Random,
    Score,
    WindowScore,
)
from samacli.pruning.selection import keep_highest
from samacli.registry import RUN_SCORES, SCORES, load, scores_of
from samacli.training.observation import Observation
from tests.pruning.histories import Visit, recorded


def shown(score: Score, run: list[Observation]) -> np.ndarray:
    for seen in run:
        score.observe(seen)
    return score.result()


def error(visit: Visit) -> float:
    return float(np.linalg.norm(visit.probabilities - np.eye(len(visit.logits))[visit.label]))


def two_largest(visit: Visit) -> float:
    first, second = np.sort(visit.probabilities)[::-1][:2]
    return -float(first - second)


def label_margin(visit: Visit) -> float:
    return float(visit.logits[visit.label] - np.delete(visit.logits, visit.label).max())


# score, its value at a visit, its part of the run, whether it takes labels
MEANS: list[tuple[Any, Callable[[Visit], float], tuple[float, float], bool]] = [
    (EL2N, error, (0.05, 0.2), True),
    (GraNd, lambda v: error(v) * np.sqrt(v.features @ v.features + 1), (0.05, 0.2), True),
    (AUM, label_margin, (0.0, 1.0), True),
    (CCS, label_margin, (0.0, 1.0), True),
    (Margin, two_largest, (0.9, 1.0), False),
    (
        Entropy,
        lambda v: -float(v.probabilities @ np.log(v.probabilities)),
        (0.9, 1.0),
        False,
    ),
    (LeastConfidence, lambda v: 1 - float(v.probabilities.max()), (0.9, 1.0), False),
]


def mean_in_window(
    visits: list[Visit], value: Callable[[Visit], float], window: tuple[float, float], labels: bool
) -> float:
    if not visits or (labels and visits[0].label < 0):
        return np.nan
    # in float32, as the scores keep it: visits equally far before and after count alike
    away = [np.float32(max(0.0, window[0] - v.progress, v.progress - window[1])) for v in visits]
    return float(np.mean([value(v) for v, d in zip(visits, away, strict=True) if d == min(away)]))


@pytest.mark.parametrize("case", MEANS, ids=lambda case: case[0].__name__)
@budget(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_means_over_the_papers_part_of_the_run(case: Any, seed: int) -> None:
    score, value, window, labels = case
    run, visits = recorded(seed)
    expected = [mean_in_window(v, value, window, labels) for v in visits]
    assert np.isnan(expected[0])
    assert np.isfinite(expected[1]), "a row that is visited once, outside the window, has a value"
    np.testing.assert_allclose(shown(score(12), run), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [(0.0, 0.0), (0.3, 0.4), (0.5, 1.0)])
def test_another_part_of_the_run_may_be_asked_for(window: tuple[float, float]) -> None:
    run, visits = recorded(3)
    expected = [mean_in_window(v, error, window, True) for v in visits]
    np.testing.assert_allclose(shown(EL2N(12, window=window), run), expected, rtol=1e-4)


@budget(max_examples=25)
@given(seed=st.integers(0, 10_000))
def test_forgetting_counts_what_was_right_and_is_wrong_at_the_next_visit(seed: int) -> None:
    run, visits = recorded(seed)
    most = max(len(v) for row, v in enumerate(visits) if row != 2)
    expected = []
    for row in visits:
        right = [v.logits.argmax() == v.label for v in row]
        events = sum(was and not now for was, now in itertools.pairwise(right))
        if not row or row[0].label < 0:
            expected.append(np.nan)
        else:
            expected.append(float(events if any(right) else most))
    np.testing.assert_array_equal(shown(Forgetting(12), run), expected)


def test_what_was_never_learnt_comes_before_what_was_forgotten_most() -> None:
    right, wrong = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    score = Forgetting(3)
    for step in range(6):
        logits = torch.stack([right if step % 2 == 0 else wrong, wrong, right])
        score.observe(
            Observation(torch.arange(3), torch.zeros(3, dtype=torch.long), logits, None, step / 6)
        )
    assert list(score.result()) == [3.0, 6.0, 0.0]


@budget(max_examples=25)
@given(seed=st.integers(0, 10_000), until=st.sampled_from([0.0, 0.5, 1.0]))
def test_dual_is_the_mean_over_windows_of_std_times_difficulty(seed: int, until: float) -> None:
    run, visits = recorded(seed, steps=25)
    length = 6
    expected = []
    for row in visits:
        given_class = [v.probabilities[v.label] if v.label >= 0 else np.nan for v in row]
        windows = [
            given_class[end - length : end]
            for end in range(length, len(row) + 1)
            if end == length or row[end - 1].progress <= until
        ]
        if not windows and len(row) > 1:
            windows = [given_class]  # a short run: what there is
        products = [np.std(w, ddof=1) * (1 - np.mean(w)) for w in windows]
        expected.append(np.mean(products) if products else np.nan)
    found = shown(DUAL(12, until=until, visits=length), run)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_grand_is_the_norm_of_each_examples_own_gradient_of_the_last_layer(bias: bool) -> None:
    torch.manual_seed(0)
    body, head = torch.nn.Linear(7, 5), torch.nn.Linear(5, 4, bias=bias)
    x, y = torch.randn(9, 7), torch.randint(0, 4, (9,))
    features = body(x).tanh().detach()
    score = GraNd(9)
    score.observe(Observation(torch.arange(9), y, head(features).detach(), features, 0.0, bias))
    exact = head.double()
    expected = []
    for h, label in zip(features.double(), y, strict=True):
        loss = torch.nn.functional.cross_entropy(exact(h[None]), label[None])
        grads = torch.autograd.grad(loss, list(exact.parameters()))
        expected.append(float(torch.cat([g.flatten() for g in grads]).norm()))
    np.testing.assert_allclose(score.result(), expected, rtol=1e-5)


def test_several_visits_in_one_batch_count_as_often() -> None:
    rows = torch.tensor([1, 0, 1])
    logits = torch.tensor([[1.0, 0.0], [3.0, 1.0], [0.0, 2.0]])
    score = AUM(2)
    score.observe(Observation(rows, torch.zeros(3, dtype=torch.long), logits, None, 0.5))
    np.testing.assert_allclose(score.result(), [2.0, (1 - 2) / 2])


def test_random_is_a_permutation_whose_beginnings_are_the_subsets() -> None:
    scores = Random.of(50, 3, device="cpu", seed=7).result()
    order = np.random.default_rng(7).permutation(50)
    for count in (1, 20, 50):
        np.testing.assert_array_equal(keep_highest(scores, count), np.sort(order[:count]))


def test_rows_never_visited_have_no_score() -> None:
    run, _ = recorded(0, unlabelled=False)
    for name in set(RUN_SCORES) - {"random", "prototypes"}:  # neither is about visits
        found = shown(load(SCORES[name].where).of(12, 4, device="cpu", seed=0), run)
        assert found.dtype == np.float64
        assert np.isnan(found[0]), name
        assert np.isfinite(found[2:]).all(), name


def test_names_are_spelt_in_one_way_only() -> None:
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in SCORES)
    assert "sama" not in SCORES


def test_what_one_model_says_is_a_formula_of_a_batch() -> None:
    for name in scores_of("score"):
        assert issubclass(load(SCORES[name].where), WindowScore), name
