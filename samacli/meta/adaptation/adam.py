"""∂u/∂g of Adam, AdamW and their AMSGrad variants."""

from __future__ import annotations

from typing import Any

import torch

from samacli.meta.adaptation.blocks import Block, Product
from samacli.meta.adaptation.effective_gradient import effective_gradient, l2_decay, sign_of
from samacli.meta.adaptation.quotient import inverse_root, quotient_product


def adam(group: dict[str, Any], scalars: dict[str, float], block: Block) -> Product:
    """(∂u/∂g)·x, element by element: a list and the factor to it.

    m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  b₁ = 1−β₁ᵗ;  b₂ = 1−β₂ᵗ;
    u = lr·(m/b₁) / (√(v/b₂) + ε) = (lr·√b₂/b₁) · m / (√v + ε·√b₂).
    AMSGrad divides by max(v) instead, which depends on g only where v is that maximum.
    Source: torch.optim.Adam.
    """
    beta1, beta2 = (float(b) for b in group["betas"])
    bias1, bias2 = 1 - beta1 ** scalars["step"], 1 - beta2 ** scalars["step"]
    scale, eps = float(group["lr"]) * bias2**0.5 / bias1, float(group["eps"]) * bias2**0.5
    m, v = block.state["exp_avg"], block.state["exp_avg_sq"]
    top = block.state["max_exp_avg_sq"] if group["amsgrad"] else v

    update = None
    if l2_decay(group):
        update = inverse_root(top, eps)
        torch._foreach_mul_(update, m)
        torch._foreach_mul_(update, scale)
    h = effective_gradient(group, block, offset=update)
    if group["amsgrad"]:
        h = [g.masked_fill(a != b, 0.0) for g, a, b in zip(h, v, top, strict=True)]
    k = 1 - beta1
    y = quotient_product(block.x, v=top, eps=eps, n=m, h=h, k=k, c=1 - beta2)
    return y, scale * k * sign_of(group)
