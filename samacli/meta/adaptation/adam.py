"""∂u/∂g of Adam, AdamW and their AMSGrad variants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samacli.meta.adaptation.blocks import Block


def adam(group: dict[str, Any], scalars: dict[str, float], block: Block) -> list[Tensor]:
    """(∂u/∂g)·x, element by element.

    m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  b₁ = 1−β₁ᵗ;  b₂ = 1−β₂ᵗ;
    u = lr·(m/b₁) / (√(v/b₂) + ε). With r = √v, e = ε·√b₂, q = r·(r + e):
        ∂u/∂g = lr·(1−β₁)·√b₂/b₁ · (r/q) · [ 1 − (1−β₂)/(1−β₁) · m·g/q ].
    AMSGrad divides by max(v) instead; the second term then counts only where v is that maximum.
    Where v = 0 the element has never had a gradient, u has a kink and the formula would divide by
    ε alone: the derivative is taken as 0 (r/q with q held above 0), so that such elements do not
    swamp the vector.
    L2 decay (Adam) enters g through θ before the step, which is θ + u; decoupled decay (AdamW)
    does not enter g. Source: torch.optim.Adam.
    """
    step = scalars["step"]
    beta1, beta2 = (float(b) for b in group["betas"])
    bias1, bias2 = 1 - beta1**step, 1 - beta2**step
    lr, root = float(group["lr"]), bias2**0.5
    sign = -1.0 if group["maximize"] else 1.0
    m, v = block.state["exp_avg"], block.state["exp_avg_sq"]
    top = block.state["max_exp_avg_sq"] if group["amsgrad"] else v

    r = torch._foreach_sqrt(top)
    q = torch._foreach_add(r, float(group["eps"]) * root)
    decay = 0.0 if group.get("decoupled_weight_decay") else float(group["weight_decay"])
    if decay == 0:
        term = torch._foreach_mul(m, block.grads)
    else:
        term = torch._foreach_div(m, q)
        torch._foreach_mul_(term, lr * root / bias1)  # u
        torch._foreach_add_(term, block.params)  # θ before
        torch._foreach_mul_(term, decay * sign)
        torch._foreach_add_(term, block.grads)  # ±g
        torch._foreach_mul_(term, m)
    torch._foreach_mul_(q, r)
    torch._foreach_clamp_min_(q, torch.finfo(q[0].dtype).tiny)
    if group["amsgrad"]:
        for t, a, b in zip(term, v, top, strict=True):
            t.masked_fill_(a != b, 0.0)
    torch._foreach_mul_(term, block.x)
    y = torch._foreach_addcdiv(block.x, term, q, value=-sign * (1 - beta2) / (1 - beta1))
    torch._foreach_mul_(y, r)
    torch._foreach_div_(y, q)
    torch._foreach_mul_(y, sign * lr * (1 - beta1) * root / bias1)
    return list(y)
