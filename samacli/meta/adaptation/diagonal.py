"""∂u/∂g kept as numbers, for a meta step that must not hold the gradient as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from samacli.meta.adaptation.product import CLOSED_FORMS, adapt, unwrap
from samacli.meta.shards import any_sharded

PORTION_BYTES = 64 << 20


class Diagonal:
    """∂u/∂g of the last step in bfloat16, half the memory of the gradients that it replaces.

    A number keeps 8 bits, a relative error of at most 2⁻⁹ in each element of v, and all of its
    range.
    """

    def __init__(self, params: Sequence[Tensor], factors: Sequence[Tensor]) -> None:
        self._factors = {id(p): f for p, f in zip(params, factors, strict=True)}
        self.slope: Tensor | float = 0.0

    def use_up(self, param: Tensor, vector: Tensor) -> Tensor:
        """(∂u/∂g)·x for one parameter; its factor is let go, and ⟨x, (∂u/∂g)·x⟩ added to slope."""
        product = self._factors.pop(id(param)).to(vector.dtype).mul_(vector)
        self.slope += torch.dot(vector.reshape(-1), product.reshape(-1)).double()
        return product


def take_diagonal(optimizer: torch.optim.Optimizer, params: Sequence[Tensor]) -> Diagonal | None:
    """Turn the gradients of the last step into its ∂u/∂g: `p.grad` is None afterwards.

    None, and nothing is touched, where ∂u/∂g is not known element by element (an optimiser
    without a closed form) or parameters are sharded.
    Raises RuntimeError as `adapt` does.
    """
    if type(unwrap(optimizer)) not in CLOSED_FORMS or any_sharded(params):
        return None
    if all(p.grad is None for p in params):
        raise RuntimeError("no gradient is left: take the meta gradient before zero_grad()")
    factors: list[Tensor] = []
    for portion in _portions(params):
        ones = [torch.ones_like(p) for p in portion]
        if any(p.grad is not None for p in portion):
            adapt(optimizer, portion, ones)
        else:
            torch._foreach_zero_(ones)
        factors += [x.to(torch.bfloat16) for x in ones]
        for p in portion:
            p.grad = None
    return Diagonal(params, factors)


def _portions(params: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of so much memory together, or single ones of more."""
    portion: list[Tensor] = []
    size = 0
    for p in params:
        portion.append(p)
        size += p.numel() * p.element_size()
        if size >= PORTION_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
