"""The fast form of the meta gradient against double backward in float64."""

from __future__ import annotations

import pytest
import torch

from samacli.meta import meta_gradient, weighting_meta_gradient

from .problems import as_bilevel, batch, model, train, weighting_problem
from .reference import (
    cosine,
    reference_adaptation,
    reference_meta_gradient,
    relative_error,
    snapshot,
)

KINDS = ("mlp", "transformer", "conv")
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3),
}
TOLERANCE = {"central": 1e-3, "one-sided": 1e-3, "forward": 1e-9}


def trained(kind: str, optimizer: str, dropout: float = 0.0, correct: bool = True):
    torch.manual_seed(0)
    net = model(kind, dropout).double()
    problem = weighting_problem(net, OPTIMIZERS[optimizer](net.parameters()), correct=correct)
    train(problem, kind, 4)
    before = snapshot(problem.optimizer)
    data = train(problem, kind, 1)
    return problem, before, data, batch(kind)


@pytest.mark.parametrize("derivative", TOLERANCE)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_double_backward(kind: str, optimizer: str, derivative: str) -> None:
    problem, before, base, meta = trained(kind, optimizer)
    found = weighting_meta_gradient(problem, base, meta, derivative=derivative)
    expected = reference_meta_gradient(
        problem, base, meta, lambda p, x: reference_adaptation(problem.optimizer, before, p, x)
    )
    assert relative_error(found, expected) < TOLERANCE[derivative]
    assert cosine(found, expected) > 0.9999


@pytest.mark.parametrize("derivative", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_without_adaptation_and_correction(kind: str, derivative: str) -> None:
    problem, _, base, meta = trained(kind, "sgd", correct=False)
    found = weighting_meta_gradient(problem, base, meta, method="sama-na", derivative=derivative)
    expected = reference_meta_gradient(problem, base, meta, None)
    assert relative_error(found, expected) < TOLERANCE[derivative]


@pytest.mark.parametrize("method", ["sama", "sama-na"])
def test_equals_the_general_form(method: str) -> None:
    problem, _, base, meta = trained("transformer", "adamw")
    found = weighting_meta_gradient(problem, base, meta, method=method, derivative="forward")
    assert relative_error(found, meta_gradient(problem, base, meta, method)) < 1e-9
    assert relative_error(found, meta_gradient(as_bilevel(problem), base, meta, method)) < 1e-9


@pytest.mark.parametrize("derivative", TOLERANCE)
def test_masks_of_dropout_are_the_same_in_all_passes(derivative: str) -> None:
    problem, before, base, meta = trained("transformer", "adamw", dropout=0.3)
    found = weighting_meta_gradient(problem, base, meta, derivative=derivative)
    expected = reference_meta_gradient(
        problem, base, meta, lambda p, x: reference_adaptation(problem.optimizer, before, p, x)
    )
    assert relative_error(found, expected) < TOLERANCE[derivative]


@pytest.mark.parametrize("derivative", TOLERANCE)
def test_outputs_at_theta_are_used(derivative: str) -> None:
    problem, _, base, meta = trained("mlp", "adamw")
    calls = []
    outputs = problem.outputs
    problem.outputs = lambda m, b: calls.append(1) or outputs(m, b)
    plain = weighting_meta_gradient(problem, base, meta, derivative=derivative)
    without = len(calls)
    with torch.no_grad():
        known = outputs(problem.model, base)
    given = weighting_meta_gradient(
        problem, base, meta, derivative=derivative, outputs_at_theta=known
    )
    assert relative_error(given, plain) < 1e-5
    expected = {"central": (2, 2), "one-sided": (2, 2), "forward": (1, 1)}[derivative]
    assert (without, len(calls) - without) == expected


@pytest.mark.parametrize("derivative", TOLERANCE)
def test_outputs_of_before_the_step_enter_no_difference(derivative: str) -> None:
    """Only weights are evaluated there: old outputs under other masks change little."""
    problem, _, base, meta = trained("transformer", "adamw", dropout=0.1)
    plain = weighting_meta_gradient(problem, base, meta, derivative=derivative)
    with torch.no_grad():
        known = problem.outputs(problem.model, base) + 1e-3
    given = weighting_meta_gradient(
        problem, base, meta, derivative=derivative, outputs_at_theta=known
    )
    assert cosine(given, plain) > 0.9
