"""Values that a loss takes out of differentiation, for derivatives that don't go by autograd.

A loss of θ and λ may hold parts of itself constant, by `detach()` or under `no_grad`: the features
of the sample weights, most of all. Reverse-mode differentiation honours that by itself. A finite
difference would move those parts along with θ, and forward mode would differentiate what is
computed under `no_grad`; the two modes here keep them from it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from samacli.meta.functional import each_tensor

_DETACH = {torch.Tensor.detach, torch.detach, torch.Tensor.data.__get__}  # type: ignore[attr-defined]


class HeldConstant(TorchFunctionMode):
    """For differences: constants found in a first pass are put in their places in later ones.

    Use it as a context around each pass, and `replay()` before each pass but the first. All
    passes must take the same path through the loss.

    Raises RuntimeError if a pass holds other values constant than the first did.
    """

    def __init__(self) -> None:
        super().__init__()
        self._constants: list[Tensor] = []
        self._position: int | None = None  # None while recording
        self._made_without_grad: dict[int, weakref.ref[Tensor]] = {}
        self._replaced: dict[int, Tensor] = {}

    def replay(self) -> None:
        """Begin another pass."""
        self._position = 0
        self._made_without_grad.clear()
        self._replaced.clear()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            result = func(*args, **kwargs)
            each_tensor(result, self._mark)
            return result
        if func in _DETACH:
            return self._constant(func(*args, **kwargs))
        if self._made_without_grad:
            args = each_tensor(args, self._where_used)
            kwargs = each_tensor(kwargs, self._where_used)
        return func(*args, **kwargs)

    def _mark(self, tensor: Tensor) -> Tensor:
        self._made_without_grad[id(tensor)] = weakref.ref(tensor)
        return tensor

    def _where_used(self, tensor: Tensor) -> Tensor:
        # what is made under no_grad counts where it comes out of it: a teacher's forward pass
        # leaves one constant behind, not all its activations
        # (parameters are none: FSDP gathers them under no_grad)
        if isinstance(tensor, nn.Parameter):
            return tensor
        mark = self._made_without_grad.get(id(tensor))
        if mark is None or mark() is not tensor:
            return tensor
        if id(tensor) not in self._replaced:
            self._replaced[id(tensor)] = self._constant(tensor)
        return self._replaced[id(tensor)]

    def _constant(self, value: Tensor) -> Tensor:
        if self._position is None:
            self._constants.append(value.clone())
            return value
        found = self._constants[self._position] if self._position < len(self._constants) else None
        if found is None or found.shape != value.shape:
            raise RuntimeError("the loss held other values constant than in its first pass")
        self._position += 1
        return found


class NoTangents(TorchFunctionMode):
    """For forward mode: what is computed under `no_grad` has no tangent."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if torch.is_grad_enabled():
            return result
        return each_tensor(result, lambda t: forward_ad.unpack_dual(t).primal)
