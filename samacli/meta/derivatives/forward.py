"""Directional derivatives by forward-mode automatic differentiation: exact, one dual pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from samacli.meta.functional import call_with


def pushforward(
    function: Callable[[nn.Module], Tensor],
    model: nn.Module,
    params: Sequence[Tensor],
    v: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """f(θ) and ∂f/∂θ·v from one pass with dual numbers θ + v·ϵ, ϵ² = 0.

    function(model) -> tensor of any shape. Returns two tensors of that shape; the tangent is
    differentiable with respect to anything else the function depends on (λ), if grad mode is on.
    Attention runs in its plain form, since the fused kernels have no forward derivative. Where an
    operation can't mix precisions in this mode (batch norm), the pass runs without autocast.

    Raises ValueError if a parameter is not the model's, NotImplementedError (from torch) if an
    operation has no forward derivative.
    """
    device = params[0].device.type
    try:
        return _pushforward(function, model, params, v)
    except (NotImplementedError, torch.OutOfMemoryError):
        raise
    except RuntimeError:
        if not torch.is_autocast_enabled(device):
            raise
    with torch.autocast(device, enabled=False):
        return _pushforward(function, model, params, v)


def _pushforward(
    function: Callable[[nn.Module], Tensor],
    model: nn.Module,
    params: Sequence[Tensor],
    v: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
        duals = [forward_ad.make_dual(p.detach(), x) for p, x in zip(params, v, strict=True)]
        value, tangent = forward_ad.unpack_dual(call_with(function, model, params, duals))
        return value, torch.zeros_like(value) if tangent is None else tangent
