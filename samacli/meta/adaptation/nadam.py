"""∂u/∂g of NAdam."""

from __future__ import annotations

from typing import Any

import torch

from samacli.meta.adaptation.blocks import Block, Product
from samacli.meta.adaptation.effective_gradient import effective_gradient, l2_decay, sign_of
from samacli.meta.adaptation.quotient import inverse_root, quotient_product


def nadam(group: dict[str, Any], scalars: dict[str, float], block: Block) -> Product:
    """(∂u/∂g)·x, element by element: a list and the factor to it.

    m and v as in Adam; μ_t = β₁·(1 − ½·0.96^(t·ψ)), ψ the momentum decay; Π = μ_1·…·μ_t;
    u = lr·√b₂ · n / (√v + ε·√b₂),  n = a·g + b·m,
        a = (1−μ_t)/(1−Π),  b = μ_{t+1}/(1−Π·μ_{t+1}),  so ∂n/∂g = a + b·(1−β₁).
    Source: torch.optim.NAdam.
    """
    beta1, beta2 = (float(b) for b in group["betas"])
    step, product, decay = scalars["step"], scalars["mu_product"], float(group["momentum_decay"])
    mu, mu_next = (beta1 * (1 - 0.5 * 0.96 ** (t * decay)) for t in (step, step + 1))
    a, b = (1 - mu) / (1 - product), mu_next / (1 - product * mu_next)
    root = (1 - beta2**step) ** 0.5
    scale, eps = float(group["lr"]) * root, float(group["eps"]) * root
    m, v = block.state["exp_avg"], block.state["exp_avg_sq"]

    offset = gain = None
    if l2_decay(group):
        inverse = inverse_root(v, eps)
        offset = torch._foreach_mul(inverse, m)
        torch._foreach_mul_(offset, scale * b)
        gain = torch._foreach_mul(inverse, scale * a)
    g = effective_gradient(group, block, offset=offset, gain=gain)
    n = torch._foreach_mul(m, b)
    torch._foreach_add_(n, g, alpha=a)
    k = a + b * (1 - beta1)
    y = quotient_product(block.x, v=v, eps=eps, n=n, h=g, k=k, c=1 - beta2)
    return y, scale * k * sign_of(group)
