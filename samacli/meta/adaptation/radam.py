"""∂u/∂g of RAdam."""

from __future__ import annotations

from typing import Any

import torch

from samacli.meta.adaptation.blocks import Block, Product
from samacli.meta.adaptation.effective_gradient import effective_gradient, l2_decay, sign_of
from samacli.meta.adaptation.quotient import inverse_root, quotient_product


def radam(group: dict[str, Any], scalars: dict[str, float], block: Block) -> Product:
    """(∂u/∂g)·x, element by element: a list and the factor to it.

    m and v as in Adam; ρ∞ = 2/(1−β₂) − 1;  ρ = ρ∞ − 2t·β₂ᵗ/b₂.
    While the variance of v is not tractable (ρ ≤ 5): u = (lr/b₁)·m, and ∂u/∂g = lr·(1−β₁)/b₁.
    From then on: u = (lr·ϱ·√b₂/b₁) · m / (√v + ε),
        ϱ = √[ (ρ−4)(ρ−2)ρ∞ / ((ρ∞−4)(ρ∞−2)ρ) ].
    Source: torch.optim.RAdam.
    """
    beta1, beta2 = (float(b) for b in group["betas"])
    step, sign = scalars["step"], sign_of(group)
    bias1, bias2 = 1 - beta1**step, 1 - beta2**step
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * step * beta2**step / bias2
    plain = float(group["lr"]) / bias1
    if rho <= 5:
        return block.x, plain * (1 - beta1) * sign
    variance = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
    scale, eps = plain * (variance * bias2) ** 0.5, float(group["eps"])
    m, v = block.state["exp_avg"], block.state["exp_avg_sq"]

    update = None
    if l2_decay(group):
        update = inverse_root(v, eps)
        torch._foreach_mul_(update, m)
        torch._foreach_mul_(update, scale)
    g = effective_gradient(group, block, offset=update)
    k = 1 - beta1
    y = quotient_product(block.x, v=v, eps=eps, n=m, h=g, k=k, c=1 - beta2)
    return y, scale * k * sign
