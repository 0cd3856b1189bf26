"""(∂u/∂g)ᵀ·x for the last step of an optimiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from samacli.meta.adaptation.adadelta import adadelta
from samacli.meta.adaptation.adagrad import adagrad
from samacli.meta.adaptation.adam import adam
from samacli.meta.adaptation.adamax import adamax
from samacli.meta.adaptation.blocks import Block, Product, blocks
from samacli.meta.adaptation.bucket import Bucket, fill_buckets
from samacli.meta.adaptation.generic import generic_product
from samacli.meta.adaptation.nadam import nadam
from samacli.meta.adaptation.radam import radam
from samacli.meta.adaptation.rmsprop import rmsprop
from samacli.meta.adaptation.sgd import sgd
from samacli.meta.shards import local, summed_over_shards

ClosedForm = Callable[[dict[str, Any], dict[str, float], Block], Product]

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


def adapt(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor], vectors: Sequence[Tensor]
) -> float:
    """Replace x by (∂u/∂g)ᵀ·x in place, u being the optimiser's last step θ ← θ − u(g).

    params: those of the optimiser's parameters that the vectors belong to; vectors: same shapes.
    Reads `p.grad` and the optimiser's state as they are after `optimizer.step()`. With a closed
    form, extra memory is a few blocks (see `blocks`), not a copy of the parameters; any other
    optimiser goes through `generic_product`. Vectors of parameters that had no gradient become
    0: they did not move. Where parameters are sharded over processes (FSDP2), so are the vectors,
    and every process treats its own shards.

    Returns ⟨x, (∂u/∂g)ᵀ·x⟩ over all shards; that number is all that processes communicate.
    Raises RuntimeError if no step has been taken, or its gradients are gone.
    """
    if not params:
        return 0.0
    inner = unwrap(optimizer)
    if all(p.grad is None for p in params):
        raise RuntimeError("no gradient is left: take the meta gradient before zero_grad()")
    form = CLOSED_FORMS.get(type(inner))
    with torch.no_grad():
        if form is None:
            return generic_product(inner, params, vectors)
        slope = torch.zeros((), dtype=torch.float64, device=local(params[0]).device)
        for bucket in fill_buckets(inner, params, vectors):
            slope += _apply(form, bucket, inner).to(slope.device)
        return float(summed_over_shards(slope, params))


def unwrap(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The torch optimiser inside a wrapper such as accelerate's."""
    inner = getattr(optimizer, "optimizer", None)
    return unwrap(inner) if isinstance(inner, torch.optim.Optimizer) else optimizer


def _apply(form: ClosedForm, bucket: Bucket, optimizer: torch.optim.Optimizer) -> Tensor:
    stateless = isinstance(optimizer, torch.optim.SGD) and bucket.group["momentum"] == 0
    if not stateless and not all(bucket.states):
        raise RuntimeError("take the meta gradient after optimizer.step(): it has no state yet")
    total = torch.zeros((), dtype=torch.float64, device=bucket.params[0].device)
    for block in blocks(bucket.vectors, bucket.grads, bucket.params, bucket.state()):
        product, factor = form(bucket.group, bucket.scalars, block)
        for x, y in zip(block.x, product, strict=True):
            total.add_(torch.dot(x.reshape(-1), y.reshape(-1)), alpha=factor)
            torch.mul(y, factor, out=x)
    return total
