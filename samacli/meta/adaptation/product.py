"""(∂u/∂g)ᵀ·x for the last step of an optimiser; ∂u/∂g kept where the gradient can't be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from samacli.meta.adaptation.buckets import fill_buckets
from samacli.meta.adaptation.closed_forms import CLOSED_FORMS
from samacli.meta.adaptation.generic import generic_product, unwrap
from samacli.meta.shards import any_sharded, local, summed_over_shards

PORTION_BYTES = 64 << 20


def adapt(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor], vectors: Sequence[Tensor]
) -> Tensor | float:
    """Replace x by (∂u/∂g)ᵀ·x in place, u being the optimiser's last step θ ← θ − u(g).

    params: those of the optimiser's parameters that the vectors belong to; vectors: same shapes.
    Reads `p.grad` and the optimiser's state as they are after `optimizer.step()`. With a closed
    form, extra memory is a few blocks (see `Bucket.blocks`), not a copy of the parameters; any
    other optimiser goes through `generic_product`. Vectors of parameters that had no gradient
    become 0: they did not move. Where parameters are sharded over processes (FSDP2), so are the
    vectors, and every process treats its own shards.

    Returns ⟨x, (∂u/∂g)ᵀ·x⟩ over all shards; that number is all that processes communicate.
    Raises RuntimeError if no step has been taken, or its gradients are gone.
    """
    if not params:
        return 0.0
    optimizer = unwrap(optimizer)
    if all(p.grad is None for p in params):
        raise RuntimeError("no gradient is left: take the meta gradient before zero_grad()")
    form = CLOSED_FORMS.get(type(optimizer))
    with torch.no_grad():
        if form is None:
            return generic_product(optimizer, params, vectors)
        slope = torch.zeros((), dtype=torch.float64, device=local(params[0]).device)
        for bucket in fill_buckets(optimizer, params, vectors):
            total = torch.zeros((), dtype=torch.float64, device=bucket.params[0].device)
            for block in bucket.blocks():
                product, factor = form(bucket.group, bucket.scalars, block)
                for x, y in zip(block.x, product, strict=True):
                    total.add_(torch.dot(x.reshape(-1), y.reshape(-1)), alpha=factor)
                    torch.mul(y, factor, out=x)
            slope += total.to(slope.device)
        return summed_over_shards(slope, params)


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
