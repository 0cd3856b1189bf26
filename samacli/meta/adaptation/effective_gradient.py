"""The gradient that an optimiser worked with: p.grad after its sign and its L2 decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samacli.meta.adaptation.blocks import Block, Tensors


def sign_of(group: dict[str, Any]) -> float:
    """∂g/∂(p.grad): the gradient is negated where the optimiser maximises."""
    return -1.0 if group.get("maximize") else 1.0


def l2_decay(group: dict[str, Any]) -> float:
    """The weight decay that enters g; decoupled decay does not."""
    return 0.0 if group.get("decoupled_weight_decay") else float(group["weight_decay"])


def effective_gradient(
    group: dict[str, Any],
    block: Block,
    *,
    offset: Tensors | None = None,
    gain: Tensors | None = None,
) -> list[Tensor]:
    """g = ±p.grad + decay·θ_before, where θ_before = θ + u is the point the step started from.

    With u = offset + gain·g that is g = (±p.grad + decay·(θ + offset)) / (1 − decay·gain), so the
    point is found from the state after the step alone. Not to be written to: without sign and
    decay it is `p.grad` itself.
    """
    sign, decay = sign_of(group), l2_decay(group)
    if decay == 0:
        return block.grads if sign > 0 else list(torch._foreach_neg(block.grads))
    if offset is None:
        g = torch._foreach_mul(block.params, decay)
    else:
        g = torch._foreach_add(block.params, offset)
        torch._foreach_mul_(g, decay)
    torch._foreach_add_(g, block.grads, alpha=sign)
    if gain is not None:
        shrink = torch._foreach_mul(gain, -decay)
        torch._foreach_add_(shrink, 1.0)
        torch._foreach_div_(g, shrink)
    return list(g)
