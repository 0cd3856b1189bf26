"""∂u/∂g of the optimisers that move each element by itself, one function each, side by side.

    form(group, scalars, block) -> (∂u/∂g)·x, element by element: a list and the factor to it

u(g) is the last step, θ ← θ − u(g). group: the optimiser's parameter group; scalars: the numbers
in the parameters' state (t, the last step included, as "step"); block: pieces of the tensors, as
they are after the step, and none of them is written to. To add an optimiser is a function here and
its line in `CLOSED_FORMS`; any other goes through `generic`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Tensors = list[Tensor] | tuple[Tensor, ...]
Product = tuple[list[Tensor], float]  # a·y as (y, a): what is done with it can multiply by a
Group = dict[str, Any]
Scalars = dict[str, float]


@dataclass
class Block:
    """Corresponding pieces of the tensors that an update was made of.

    x: the vector to be multiplied; grads: `p.grad`; params: θ after the step; state: the
    optimiser's state after the step. All lists have one length, all i-th pieces one shape.
    """

    x: list[Tensor]
    grads: list[Tensor]
    params: list[Tensor]
    state: dict[str, list[Tensor]]


def sgd(group: Group, scalars: Scalars, block: Block) -> Product:
    """Stochastic gradient descent.

    b ← μ·b + (1−d)·g (first step: b ← g);  u = lr·b, with Nesterov lr·(g + μ·b). Hence
        plain            lr
        momentum         lr·(1−d)            first step: lr
        Nesterov         lr·(1 + μ·(1−d))    first step: lr·(1 + μ)
    L2 decay enters g with derivative 1. Source: torch.optim.SGD.
    """
    momentum = float(group["momentum"])
    factor = 1.0
    if momentum != 0:
        factor = 1.0 if scalars["step"] == 1 else 1 - float(group["dampening"])
        if group["nesterov"]:
            factor = 1 + momentum * factor
    return block.x, float(group["lr"]) * factor * _sign(group)


def adam(group: Group, scalars: Scalars, block: Block) -> Product:
    """Adam, AdamW and their AMSGrad variants.

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

    update = _quotient(m, top, eps, scale) if _l2_decay(group) else None
    h = _effective_gradient(group, block, offset=update)
    if group["amsgrad"]:
        h = [g.masked_fill(a != b, 0.0) for g, a, b in zip(h, v, top, strict=True)]
    k = 1 - beta1
    y = _quotient_rule(block.x, v=top, eps=eps, n=m, h=h, k=k, c=1 - beta2)
    return y, scale * k * _sign(group)


def nadam(group: Group, scalars: Scalars, block: Block) -> Product:
    """NAdam.

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
    if _l2_decay(group):
        inverse = _inverse_root(v, eps)
        offset = torch._foreach_mul(inverse, m)
        torch._foreach_mul_(offset, scale * b)
        gain = torch._foreach_mul(inverse, scale * a)
    g = _effective_gradient(group, block, offset=offset, gain=gain)
    n = torch._foreach_mul(m, b)
    torch._foreach_add_(n, g, alpha=a)
    k = a + b * (1 - beta1)
    y = _quotient_rule(block.x, v=v, eps=eps, n=n, h=g, k=k, c=1 - beta2)
    return y, scale * k * _sign(group)


def radam(group: Group, scalars: Scalars, block: Block) -> Product:
    """RAdam.

    m and v as in Adam; ρ∞ = 2/(1−β₂) − 1;  ρ = ρ∞ − 2t·β₂ᵗ/b₂.
    While the variance of v is not tractable (ρ ≤ 5): u = (lr/b₁)·m, and ∂u/∂g = lr·(1−β₁)/b₁.
    From then on: u = (lr·ϱ·√b₂/b₁) · m / (√v + ε),
        ϱ = √[ (ρ−4)(ρ−2)ρ∞ / ((ρ∞−4)(ρ∞−2)ρ) ].
    Source: torch.optim.RAdam.
    """
    beta1, beta2 = (float(b) for b in group["betas"])
    step, sign = scalars["step"], _sign(group)
    bias1, bias2 = 1 - beta1**step, 1 - beta2**step
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * step * beta2**step / bias2
    plain = float(group["lr"]) / bias1
    if rho <= 5:
        return block.x, plain * (1 - beta1) * sign
    variance = (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)
    scale, eps = plain * (variance * bias2) ** 0.5, float(group["eps"])
    m, v = block.state["exp_avg"], block.state["exp_avg_sq"]

    update = _quotient(m, v, eps, scale) if _l2_decay(group) else None
    g = _effective_gradient(group, block, offset=update)
    k = 1 - beta1
    y = _quotient_rule(block.x, v=v, eps=eps, n=m, h=g, k=k, c=1 - beta2)
    return y, scale * k * sign


def adamax(group: Group, scalars: Scalars, block: Block) -> Product:
    """Adamax.

    m ← β₁m + (1−β₁)g;  w ← max(β₂w, |g| + ε);  u = (lr/b₁)·m/w;
        ∂u/∂g = (lr/b₁)/w · [ (1−β₁) − (m/w)·sign(g) where |g| + ε is the maximum ].
    Where w = ε the element has had no gradient worth the name; the derivative is taken as 0.
    Source: torch.optim.Adamax.
    """
    beta1 = float(group["betas"][0])
    scale, eps = float(group["lr"]) / (1 - beta1 ** scalars["step"]), float(group["eps"])
    m, w = block.state["exp_avg"], block.state["exp_inf"]
    ratio = torch._foreach_div(m, w)
    offset = torch._foreach_mul(ratio, scale) if _l2_decay(group) else None
    g = _effective_gradient(group, block, offset=offset)
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
    return list(y), scale * _sign(group)


def rmsprop(group: Group, scalars: Scalars, block: Block) -> Product:
    """RMSprop.

    v ← α·v + (1−α)·g²;  centred: a ← α·a + (1−α)·g and w = v − a², else w = v;
    u = lr·g/(√w + ε), with momentum lr·b, b ← μ·b + g/(√w + ε): the derivative is the same.
        ½·∂w/∂g = (1−α)·(g − a), without a where it is not centred.
    Source: torch.optim.RMSprop.
    """
    lr, alpha, eps = float(group["lr"]), float(group["alpha"]), float(group["eps"])
    w = block.state["square_avg"]
    if group["centered"]:
        a = block.state["grad_avg"]
        w = list(torch._foreach_addcmul(w, a, a, value=-1.0))

    offset = gain = None
    if _l2_decay(group) and float(group["momentum"]) > 0:
        offset = torch._foreach_mul(block.state["momentum_buffer"], lr)
    elif _l2_decay(group):
        gain = _inverse_root(w, eps)
        torch._foreach_mul_(gain, lr)
    g = _effective_gradient(group, block, offset=offset, gain=gain)
    h = list(torch._foreach_sub(g, block.state["grad_avg"])) if group["centered"] else g
    y = _quotient_rule(block.x, v=w, eps=eps, n=g, h=h, k=1.0, c=1 - alpha)
    return y, lr * _sign(group)


def adagrad(group: Group, scalars: Scalars, block: Block) -> Product:
    """Adagrad.

    s ← s + g²;  u = lr_t·g/(√s + ε),  lr_t = lr/(1 + (t−1)·decay of the rate).
    Source: torch.optim.Adagrad.
    """
    lr = float(group["lr"]) / (1 + (scalars["step"] - 1) * float(group["lr_decay"]))
    eps = float(group["eps"])
    v = block.state["sum"]
    gain = None
    if _l2_decay(group):
        gain = _inverse_root(v, eps)
        torch._foreach_mul_(gain, lr)
    g = _effective_gradient(group, block, gain=gain)
    y = _quotient_rule(block.x, v=v, eps=eps, n=g, h=g, k=1.0, c=1.0)
    return y, lr * _sign(group)


def adadelta(group: Group, scalars: Scalars, block: Block) -> Product:
    """Adadelta.

    v ← ρ·v + (1−ρ)·g²;  δ = K·g,  K = √(A + ε)/√(v + ε);  A ← ρ·A + (1−ρ)·δ²;  u = lr·δ;
        ∂u/∂g = lr·K·[ 1 − (1−ρ)·g²/(v + ε) ].
    Only the A after the step is there; put into the definition of K it gives
        K² = (A/ρ + ε) / (v + ε + (1−ρ)·g²/ρ).
    Source: torch.optim.Adadelta.
    """
    lr, rho, eps = float(group["lr"]), float(group["rho"]), float(group["eps"])
    v, accumulated = block.state["square_avg"], block.state["acc_delta"]

    def ratio(g: list[Tensor]) -> list[Tensor]:
        """K of the last step."""
        top = torch._foreach_div(accumulated, rho)
        torch._foreach_add_(top, eps)
        bottom = torch._foreach_addcmul(v, g, g, value=(1 - rho) / rho)
        torch._foreach_add_(bottom, eps)
        torch._foreach_div_(top, bottom)
        torch._foreach_sqrt_(top)
        return list(top)

    g = _effective_gradient(group, block)
    rate = ratio(g)
    # under L2 decay g and K depend on each other; each round shrinks the error by about decay·lr
    for _ in range(5 if _l2_decay(group) else 0):
        gain = torch._foreach_mul(rate, lr)
        g = _effective_gradient(group, block, gain=gain)
        rate = ratio(g)
    term = torch._foreach_mul(g, g)
    bottom = torch._foreach_add(v, eps)
    torch._foreach_div_(term, bottom)
    torch._foreach_mul_(term, rho - 1)
    torch._foreach_add_(term, 1.0)
    torch._foreach_mul_(term, rate)
    torch._foreach_mul_(term, block.x)
    return list(term), lr * _sign(group)


ClosedForm = Callable[[Group, Scalars, Block], Product]

# By exact class: a subclass may have changed the step, and goes through the generic product.
CLOSED_FORMS: dict[type[torch.optim.Optimizer], ClosedForm] = {
    torch.optim.SGD: sgd,
    torch.optim.Adam: adam,
    torch.optim.AdamW: adam,
    torch.optim.NAdam: nadam,
    torch.optim.RAdam: radam,
    torch.optim.Adamax: adamax,
    torch.optim.RMSprop: rmsprop,
    torch.optim.Adagrad: adagrad,
    torch.optim.Adadelta: adadelta,
}


def _quotient_rule(
    x: Tensors, *, v: Tensors, eps: float, n: Tensors, h: Tensors, k: float, c: float
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


def _quotient(n: Tensors, v: Tensors, eps: float, scale: float) -> list[Tensor]:
    """scale · n / (√v + ε)."""
    update = _inverse_root(v, eps)
    torch._foreach_mul_(update, n)
    torch._foreach_mul_(update, scale)
    return update


def _inverse_root(v: Tensors, eps: float) -> list[Tensor]:
    """1 / (√v + ε)."""
    r = torch._foreach_sqrt(v)
    torch._foreach_add_(r, eps)
    torch._foreach_reciprocal_(r)
    return list(r)


def _sign(group: Group) -> float:
    """∂g/∂(p.grad): the gradient is negated where the optimiser maximises."""
    return -1.0 if group.get("maximize") else 1.0


def _l2_decay(group: Group) -> float:
    """The weight decay that enters g; decoupled decay does not."""
    return 0.0 if group.get("decoupled_weight_decay") else float(group["weight_decay"])


def _effective_gradient(
    group: Group, block: Block, *, offset: Tensors | None = None, gain: Tensors | None = None
) -> list[Tensor]:
    """g = ±p.grad + decay·θ_before, where θ_before = θ + u is the point the step started from.

    With u = offset + gain·g that is g = (±p.grad + decay·(θ + offset)) / (1 − decay·gain), so the
    point is found from the state after the step alone. Not to be written to: without sign and
    decay it is `p.grad` itself.
    """
    sign, decay = _sign(group), _l2_decay(group)
    if decay == 0:
        return block.grads if sign > 0 else list(torch._foreach_neg(block.grads))
    if offset is None:
        g = torch._foreach_mul(block.params, decay)
    else:
        g = torch._foreach_add(block.params, offset)
        torch._foreach_mul_(g, decay)
    torch._foreach_add_(g, block.grads, alpha=sign)
    if gain is not None:
        shrink = torch._foreach_mul(gain, -decay)
        torch._foreach_add_(shrink, 1.0)
        torch._foreach_div_(g, shrink)
    return list(g)
