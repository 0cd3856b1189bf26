"""∂u/∂g of Adadelta."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samacli.meta.adaptation.blocks import Block, Product
from samacli.meta.adaptation.effective_gradient import effective_gradient, l2_decay, sign_of

# Under L2 decay g and K depend on each other; each round shrinks the error by about decay·lr.
ROUNDS = 5


def adadelta(group: dict[str, Any], scalars: dict[str, float], block: Block) -> Product:
    """(∂u/∂g)·x, element by element: a list and the factor to it.

    v ← ρ·v + (1−ρ)·g²;  δ = K·g,  K = √(A + ε)/√(v + ε);  A ← ρ·A + (1−ρ)·δ²;  u = lr·δ;
        ∂u/∂g = lr·K·[ 1 − (1−ρ)·g²/(v + ε) ].
    Only the A after the step is there; put into the definition of K it gives
        K² = (A/ρ + ε) / (v + ε + (1−ρ)·g²/ρ).
    Source: torch.optim.Adadelta.
    """
    lr, rho, eps = float(group["lr"]), float(group["rho"]), float(group["eps"])
    v, accumulated = block.state["square_avg"], block.state["acc_delta"]
    g = effective_gradient(group, block)
    rate = _rate(g, v, accumulated, rho, eps)
    if l2_decay(group):
        for _ in range(ROUNDS):
            gain = torch._foreach_mul(rate, lr)
            g = effective_gradient(group, block, gain=gain)
            rate = _rate(g, v, accumulated, rho, eps)
    term = torch._foreach_mul(g, g)
    bottom = torch._foreach_add(v, eps)
    torch._foreach_div_(term, bottom)
    torch._foreach_mul_(term, rho - 1)
    torch._foreach_add_(term, 1.0)
    torch._foreach_mul_(term, rate)
    torch._foreach_mul_(term, block.x)
    return list(term), lr * sign_of(group)


def _rate(
    g: list[Tensor], v: list[Tensor], accumulated: list[Tensor], rho: float, eps: float
) -> list[Tensor]:
    """K of the last step."""
    top = torch._foreach_div(accumulated, rho)
    torch._foreach_add_(top, eps)
    bottom = torch._foreach_addcmul(v, g, g, value=(1 - rho) / rho)
    torch._foreach_add_(bottom, eps)
    torch._foreach_div_(top, bottom)
    torch._foreach_sqrt_(top)
    return list(top)
