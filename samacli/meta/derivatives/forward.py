"""Directional derivatives by forward-mode automatic differentiation: exact, one dual pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel


class _Call(nn.Module):
    """Wraps a function of a model as a module, so that `functional_call` can run it."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._function = function

    def forward(self) -> Tensor:
        return self._function(self.model)


def pushforward(
    function: Callable[[nn.Module], Tensor],
    model: nn.Module,
    params: Sequence[Tensor],
    v: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """f(θ) and ∂f/∂θ·v from one pass with dual numbers θ + v·ϵ, ϵ² = 0.

    function(model) -> tensor of any shape. Returns two tensors of that shape; the tangent is
    differentiable with respect to anything else the function depends on (λ), if grad mode is on.
    Attention runs in its plain form, since the fused kernels have no forward derivative.

    Raises ValueError if a parameter is not the model's, NotImplementedError (from torch) if an
    operation has no forward derivative.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    if any(id(p) not in names for p in params):
        raise ValueError("forward mode needs every trained parameter to be one of the model's")
    call = _Call(model, function)
    with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
        duals: dict[str, Any] = {
            f"model.{names[id(p)]}": forward_ad.make_dual(p.detach(), x)
            for p, x in zip(params, v, strict=True)
        }
        value, tangent = forward_ad.unpack_dual(torch.func.functional_call(call, duals, ()))
        return value, torch.zeros_like(value) if tangent is None else tangent
