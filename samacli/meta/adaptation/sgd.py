"""∂u/∂g of stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samacli.meta.adaptation.blocks import Block, Product


def sgd(group: dict[str, Any], scalars: dict[str, float], block: Block) -> Product:
    """(∂u/∂g)·x: x, and one factor for all elements.

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
    sign = -1.0 if group["maximize"] else 1.0
    return block.x, float(group["lr"]) * factor * sign


def dampened(group: dict[str, Any]) -> bool:
    """Whether ∂u/∂g of the first step differs from the later ones'."""
    return float(group["dampening"]) != 0 and float(group["momentum"]) != 0


def like_first_step(
    group: dict[str, Any], param: Tensor, grad: Tensor, state: dict[str, Any]
) -> bool:
    """Whether a parameter's buffer is what its first step would have made it.

    The optimiser keeps no count, but the buffer equals the gradient after the first step, and
    after no other unless by coincidence. Of a shard it says less: there may be no element in it,
    or none that ever had a gradient, so all shards have to look like it.
    """
    buffer, decay, lr = state.get("momentum_buffer"), float(group["weight_decay"]), group["lr"]
    if grad.numel() == 0 or buffer is None:
        return True
    grad = -grad if group["maximize"] else grad
    if decay == 0:
        return torch.equal(buffer, grad)
    # θ before the step was θ + lr·b, without Nesterov (which torch allows no dampening with)
    decayed = grad.add(param.add(buffer, alpha=float(lr)), alpha=decay)
    tolerance = 16 * torch.finfo(grad.dtype).eps * (grad.abs().max() + decayed.abs().max())
    return bool((decayed - buffer).abs().max() <= tolerance)
