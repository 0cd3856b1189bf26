"""∂u/∂g of Adagrad."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samacli.meta.adaptation.blocks import Block
from samacli.meta.adaptation.effective_gradient import effective_gradient, l2_decay, sign_of
from samacli.meta.adaptation.quotient import quotient_product


def adagrad(group: dict[str, Any], scalars: dict[str, float], block: Block) -> list[Tensor]:
    """(∂u/∂g)·x, element by element.

    s ← s + g²;  u = lr_t·g/(√s + ε),  lr_t = lr/(1 + (t−1)·decay of the rate).
    Source: torch.optim.Adagrad.
    """
    lr = float(group["lr"]) / (1 + (scalars["step"] - 1) * float(group["lr_decay"]))
    eps = float(group["eps"])
    r = torch._foreach_sqrt(block.state["sum"])
    gain = None
    if l2_decay(group):
        gain = torch._foreach_add(r, eps)
        torch._foreach_reciprocal_(gain)
        torch._foreach_mul_(gain, lr)
    g = effective_gradient(group, block, gain=gain)
    return quotient_product(
        block.x, r=r, eps=eps, n=g, h=g, k=1.0, c=1.0, scale=lr * sign_of(group)
    )
