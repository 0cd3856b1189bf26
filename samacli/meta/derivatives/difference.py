"""Directional derivatives by finite differences: first-order passes alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from samacli.meta.derivatives.step_size import step_size
from samacli.meta.direction import Direction
from samacli.meta.perturb import Perturbation

Evaluate = Callable[[], list[Tensor]]
# A context for the last of the passes, told how its i-th value becomes the i-th result.
LastPass = Callable[[Callable[[int, Tensor], Tensor]], AbstractContextManager[None]]


def _unwatched(result: Callable[[int, Tensor], Tensor]) -> AbstractContextManager[None]:
    return nullcontext()


def central(
    evaluate: Evaluate, at: Direction, *, keep: bool = False, last_pass: LastPass = _unwatched
) -> tuple[list[Tensor], list[Tensor]]:
    """f(θ) and ∂f/∂θ·v ≈ [f(θ+εv) − f(θ−εv)] / 2ε, from two evaluations.

    evaluate() -> f at the model's present parameters. f(θ) is the mean of both sides, which is
    off by O(ε²), the order of the difference itself. Uses up `at.v`, whose memory is let go; with
    `keep` it holds v again afterwards, up to the rounding of θ.
    last_pass: a context for the second evaluation, see `LastPass`.
    """
    epsilon = step_size(at)
    if epsilon == 0:
        here = _wide(evaluate())
        return here, [torch.zeros_like(f) for f in here]
    line = Perturbation(at.model, at.params, at.v, epsilon)
    with line.applied():
        ahead = _wide(evaluate())

    def difference(i: int, value: Tensor) -> Tensor:
        return (ahead[i] - value) / (2 * epsilon)

    line.move_to(-epsilon)
    with line.applied(), last_pass(difference):
        behind = _wide(evaluate())
    _finish(line, at, keep)
    middle = [(a + b) / 2 for a, b in zip(ahead, behind, strict=True)]
    return middle, [difference(i, value) for i, value in enumerate(behind)]


def one_sided(
    evaluate: Evaluate, at: Direction, *, keep: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """f(θ) and ∂f/∂θ·v ≈ [f(θ+εv) − f(θ)] / ε, from two evaluations, that at θ first.

    Uses up `at.v` as `central` does.
    """
    start = evaluate()
    moved, epsilon = ahead(evaluate, at, keep=keep)
    return start, slope_towards(moved, epsilon, start)


def ahead(evaluate: Evaluate, at: Direction, *, keep: bool = False) -> tuple[list[Tensor], float]:
    """f(θ+εv), from one evaluation, and the ε of a one-sided difference. Uses up `at.v`."""
    epsilon = step_size(at, power=1 / 2)
    if epsilon == 0:
        return evaluate(), 0.0
    line = Perturbation(at.model, at.params, at.v, epsilon)
    with line.applied():
        moved = evaluate()
    _finish(line, at, keep)
    return moved, epsilon


def slope_towards(moved: list[Tensor], epsilon: float, start: list[Tensor]) -> list[Tensor]:
    """[f(θ+εv) − f(θ)] / ε."""
    if epsilon == 0:
        return [torch.zeros_like(f) for f in _wide(start)]
    return [(m - f.detach()) / epsilon for m, f in zip(_wide(moved), _wide(start), strict=True)]


def _finish(line: Perturbation, at: Direction, keep: bool) -> None:
    """Give v back, or its memory."""
    if keep:
        line.recover()
    else:
        at.v = []


def _wide(values: list[Tensor]) -> list[Tensor]:
    """At least float32: a difference of half-precision numbers must not be rounded once more."""
    return [f.float() if f.dtype in (torch.bfloat16, torch.float16) else f for f in values]
