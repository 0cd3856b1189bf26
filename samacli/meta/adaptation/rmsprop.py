"""∂u/∂g of RMSprop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samacli.meta.adaptation.blocks import Block, Product
from samacli.meta.adaptation.effective_gradient import effective_gradient, l2_decay, sign_of
from samacli.meta.adaptation.quotient import inverse_root, quotient_product


def rmsprop(group: dict[str, Any], scalars: dict[str, float], block: Block) -> Product:
    """(∂u/∂g)·x, element by element: a list and the factor to it.

    v ← α·v + (1−α)·g²;  centred: a ← α·a + (1−α)·g and w = v − a², else w = v;
    u = lr·g/(√w + ε), with momentum lr·b, b ← μ·b + g/(√w + ε): the derivative is the same.
        ½·∂w/∂g = (1−α)·(g − a), without a where it is not centred.
    Source: torch.optim.RMSprop.
    """
    lr, alpha, eps = float(group["lr"]), float(group["alpha"]), float(group["eps"])
    spread = _spread(group, block)

    offset = gain = None
    if l2_decay(group) and float(group["momentum"]) > 0:
        offset = torch._foreach_mul(block.state["momentum_buffer"], lr)
    elif l2_decay(group):
        gain = inverse_root(spread, eps)
        torch._foreach_mul_(gain, lr)
    g = effective_gradient(group, block, offset=offset, gain=gain)
    h = list(torch._foreach_sub(g, block.state["grad_avg"])) if group["centered"] else g
    y = quotient_product(block.x, v=spread, eps=eps, n=g, h=h, k=1.0, c=1 - alpha)
    return y, lr * sign_of(group)


def _spread(group: dict[str, Any], block: Block) -> list[Tensor]:
    """w, the running variance, or the running second moment."""
    v = block.state["square_avg"]
    if not group["centered"]:
        return v
    a = block.state["grad_avg"]
    return list(torch._foreach_addcmul(v, a, a, value=-1.0))
