"""SAMA without adaptation: identity for the inverse Jacobian, and for ∂u/∂g too."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from samacli.meta.estimators.sama import along_direction
from samacli.meta.problem import Problem


def sama_na(
    problem: Problem,
    base_batch: Any,
    meta_batch: Any,
    *,
    derivative: str = "forward",
    nudge: float = 0.0,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·∂L_meta/∂θ; options as for `sama`.

    Equivalent to T1−T2 (arXiv 1910.08854) and to second-order DARTS at the present θ (arXiv
    1806.09055), but for the learning rate.
    """
    return along_direction(problem, base_batch, meta_batch, "sama-na", derivative, nudge)
