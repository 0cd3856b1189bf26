"""Directional derivatives of a gradient by differentiating twice in reverse: exact, and dear."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gradient_graph(loss: Tensor, params: Sequence[Tensor]) -> list[Tensor]:
    """∂loss/∂θ with its own graph kept; zeros where the loss does not depend on a parameter."""
    grads = torch.autograd.grad(loss, list(params), create_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(params, grads, strict=True)]


def vector_product(
    grads: Sequence[Tensor], of: Sequence[Tensor], v: Sequence[Tensor], *, keep: bool = False
) -> list[Tensor]:
    """∂⟨grads, v⟩/∂of, for grads from `gradient_graph`.

    With of = θ that is the Hessian times v; with of = λ the mixed derivative times v.
    keep: the graph will be used again.
    """
    pairs = [(g, x) for g, x in zip(grads, v, strict=True) if g.requires_grad]
    if not pairs or not of:
        return [torch.zeros_like(p) for p in of]
    found = torch.autograd.grad(
        [g for g, _ in pairs], list(of), [x for _, x in pairs], retain_graph=keep, allow_unused=True
    )
    return [torch.zeros_like(p) if g is None else g for p, g in zip(of, found, strict=True)]
