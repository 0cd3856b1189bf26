"""∂u/∂g of Adamax."""

from __future__ import annotations

from typing import Any

import torch

from samacli.meta.adaptation.blocks import Block, Product
from samacli.meta.adaptation.effective_gradient import effective_gradient, l2_decay, sign_of


def adamax(group: dict[str, Any], scalars: dict[str, float], block: Block) -> Product:
    """(∂u/∂g)·x, element by element: a list and the factor to it.

    m ← β₁m + (1−β₁)g;  w ← max(β₂w, |g| + ε);  u = (lr/b₁)·m/w;
        ∂u/∂g = (lr/b₁)/w · [ (1−β₁) − (m/w)·sign(g) where |g| + ε is the maximum ].
    Where w = ε the element has had no gradient worth the name; the derivative is taken as 0.
    Source: torch.optim.Adamax.
    """
    beta1 = float(group["betas"][0])
    scale, eps = float(group["lr"]) / (1 - beta1 ** scalars["step"]), float(group["eps"])
    m, w = block.state["exp_avg"], block.state["exp_inf"]
    ratio = torch._foreach_div(m, w)
    offset = torch._foreach_mul(ratio, scale) if l2_decay(group) else None
    g = effective_gradient(group, block, offset=offset)
    # g is found again with rounding where there is decay, so equality is not to be asked for
    slack = 1 - 8 * torch.finfo(w[0].dtype).eps
    active = torch._foreach_abs(g)
    torch._foreach_add_(active, eps)
    term = torch._foreach_sign(g)
    torch._foreach_mul_(term, ratio)
    for t, size, top in zip(term, active, w, strict=True):
        t.masked_fill_(size < top * slack, 0.0)
    y = torch._foreach_mul(term, -1.0)
    torch._foreach_add_(y, 1 - beta1)
    torch._foreach_div_(y, w)
    torch._foreach_mul_(y, block.x)
    for t, top in zip(y, w, strict=True):
        t.masked_fill_(top <= eps, 0.0)
    return list(y), scale * sign_of(group)
