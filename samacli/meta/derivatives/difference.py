"""Directional derivatives by finite differences: first-order passes alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from samacli.meta.derivatives.step_size import step_size
from samacli.meta.direction import Direction
from samacli.meta.perturb import Perturbation

Evaluate = Callable[[], list[Tensor]]


def central(
    evaluate: Evaluate, at: Direction, *, keep: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """f(θ) and ∂f/∂θ·v ≈ [f(θ+εv) − f(θ−εv)] / 2ε, from two evaluations.

    evaluate() -> f at the model's present parameters. f(θ) is the mean of both sides, which is
    off by O(ε²), the order of the difference itself. Uses up `at.v`; with `keep` it holds v
    again afterwards, up to the rounding of θ.
    """
    epsilon = step_size(at)
    if epsilon == 0:
        here = _wide(evaluate())
        return here, [torch.zeros_like(f) for f in here]
    line = Perturbation(at.params, at.v, epsilon)
    with line.applied():
        ahead = _wide(evaluate())
    line.move_to(-epsilon)
    with line.applied():
        behind = _wide(evaluate())
    if keep:
        line.recover()
    middle = [(a + b) / 2 for a, b in zip(ahead, behind, strict=True)]
    slope = [(a - b) / (2 * epsilon) for a, b in zip(ahead, behind, strict=True)]
    return middle, slope


def one_sided(
    evaluate: Evaluate, at: Direction, here: list[Tensor] | None = None, *, keep: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """f(θ) and ∂f/∂θ·v ≈ [f(θ+εv) − f(θ)] / ε; one evaluation if f(θ) is given.

    Uses up `at.v` as `central` does.
    """
    epsilon = step_size(at, power=1 / 2)
    start = _wide(evaluate() if here is None else here)
    if epsilon == 0:
        return start, [torch.zeros_like(f) for f in start]
    line = Perturbation(at.params, at.v, epsilon)
    with line.applied():
        ahead = _wide(evaluate())
    if keep:
        line.recover()
    return start, [(a - f) / epsilon for a, f in zip(ahead, start, strict=True)]


def _wide(values: list[Tensor]) -> list[Tensor]:
    """At least float32: a difference of half-precision numbers must not be rounded once more."""
    return [f.float() if f.dtype in (torch.bfloat16, torch.float16) else f for f in values]
