"""∂u/∂g of stochastic gradient descent."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samacli.meta.adaptation.blocks import Block


def sgd(group: dict[str, Any], scalars: dict[str, float], block: Block) -> list[Tensor]:
    """(∂u/∂g)·x, with one number for all elements.

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
    return list(torch._foreach_mul(block.x, float(group["lr"]) * factor * sign))


def sgd_step(group: dict[str, Any], param: Tensor, grad: Tensor, state: dict[str, Any]) -> int:
    """1 after a parameter's first step, 2 after any later one.

    The optimiser keeps no count, but the buffer equals the gradient after the first step, and
    after no other unless by coincidence. The answer matters under dampening alone.
    """
    if float(group["dampening"]) == 0 or float(group["momentum"]) == 0:
        return 2
    buffer, decay, lr = state["momentum_buffer"], float(group["weight_decay"]), float(group["lr"])
    with torch.no_grad():
        grad = -grad if group["maximize"] else grad
        if decay == 0:
            return 1 if torch.equal(buffer, grad) else 2
        # θ before the step was θ + lr·b, without Nesterov (which torch allows no dampening with)
        decayed = grad.add(param.add(buffer, alpha=lr), alpha=decay)
        tolerance = 16 * torch.finfo(grad.dtype).eps * (grad.abs().max() + decayed.abs().max())
        return 1 if bool((decayed - buffer).abs().max() <= tolerance) else 2
