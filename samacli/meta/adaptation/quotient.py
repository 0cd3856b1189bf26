"""The quotient rule that most adaptive optimisers come down to."""

from __future__ import annotations

import torch
from torch import Tensor

from samacli.meta.adaptation.blocks import Tensors


def quotient_product(
    x: Tensors,
    *,
    v: Tensors,
    eps: float,
    n: Tensors,
    h: Tensors,
    k: float,
    c: float,
) -> list[Tensor]:
    """1/k · ∂/∂g [n / (√v + ε)] · x, with ∂n/∂g = k and ∂v/∂g = 2·c·h.

        (r − (c/k)·r·(n·h/q))/q · x,   r = √v,  q = r·(r + ε) = v + ε·r.

    Where v = 0 the element has never had a gradient, the quotient has a kink and the formula
    would divide by ε alone: the derivative is taken as 0 (q held above 0, so that r/q is), and
    such elements do not swamp all others. The gradient of the base loss is 0 there as well.
    All lists are parallel; none is written to. The time goes into passes over memory, so k is left
    out, for the caller to multiply by together with its own factors.
    """
    r = torch._foreach_sqrt(v)
    q = torch._foreach_add(v, r, alpha=eps)
    torch._foreach_clamp_min_(q, torch.finfo(q[0].dtype).tiny)
    term = torch._foreach_mul(n, h)
    torch._foreach_div_(term, q)
    torch._foreach_addcmul_(r, r, term, value=-c / k)
    torch._foreach_mul_(r, x)
    torch._foreach_div_(r, q)
    return list(r)


def inverse_root(v: Tensors, eps: float) -> list[Tensor]:
    """1 / (√v + ε)."""
    r = torch._foreach_sqrt(v)
    torch._foreach_add_(r, eps)
    torch._foreach_reciprocal_(r)
    return list(r)
