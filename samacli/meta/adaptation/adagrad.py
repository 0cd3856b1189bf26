"""∂u/∂g of Adagrad."""

from __future__ import annotations

from typing import Any

import torch

from samacli.meta.adaptation.blocks import Block, Product
from samacli.meta.adaptation.effective_gradient import effective_gradient, l2_decay, sign_of
from samacli.meta.adaptation.quotient import inverse_root, quotient_product


def adagrad(group: dict[str, Any], scalars: dict[str, float], block: Block) -> Product:
    """(∂u/∂g)·x, element by element: a list and the factor to it.

    s ← s + g²;  u = lr_t·g/(√s + ε),  lr_t = lr/(1 + (t−1)·decay of the rate).
    Source: torch.optim.Adagrad.
    """
    lr = float(group["lr"]) / (1 + (scalars["step"] - 1) * float(group["lr_decay"]))
    eps = float(group["eps"])
    v = block.state["sum"]
    gain = None
    if l2_decay(group):
        gain = inverse_root(v, eps)
        torch._foreach_mul_(gain, lr)
    g = effective_gradient(group, block, gain=gain)
    y = quotient_product(block.x, v=v, eps=eps, n=g, h=g, k=1.0, c=1.0)
    return y, lr * sign_of(group)
