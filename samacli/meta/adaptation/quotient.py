"""The quotient rule that most adaptive optimisers come down to."""

from __future__ import annotations

import torch
from torch import Tensor

from samacli.meta.adaptation.blocks import Tensors


def quotient_product(
    x: Tensors,
    *,
    r: Tensors,
    eps: float,
    n: Tensors,
    h: Tensors,
    k: float,
    c: float,
    scale: float,
) -> list[Tensor]:
    """scale · ∂/∂g [n / (√v + ε)] · x, with r = √v, ∂n/∂g = k and ∂v/∂g = 2·c·h.

        ∂/∂g = (r/q)·(k − c·n·h/q),   q = r·(r + ε).

    Where v = 0 the element has never had a gradient, the quotient has a kink and the formula
    would divide by ε alone: the derivative is taken as 0 (r/q with q held above 0), so that such
    elements do not swamp all others. The gradient of the base loss is 0 there as well.
    All lists are parallel; none is written to.
    """
    q = torch._foreach_add(r, eps)
    torch._foreach_mul_(q, r)
    torch._foreach_clamp_min_(q, torch.finfo(q[0].dtype).tiny)
    term = torch._foreach_mul(n, h)
    torch._foreach_div_(term, q)
    y = torch._foreach_addcmul(x, x, term, value=-c / k)
    torch._foreach_mul_(y, r)
    torch._foreach_div_(y, q)
    torch._foreach_mul_(y, scale * k)
    return list(y)
