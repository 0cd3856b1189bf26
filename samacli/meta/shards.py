"""Parameters of which this process holds a shard (FSDP2's `fully_shard`).

Such parameters are DTensors. Element-wise work is done on the local shards, sums are completed
over the shards, and nothing is gathered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(tensor: Tensor) -> bool:
    """Whether this is a DTensor."""
    # Without the module (a second to import) there can be none.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def any_sharded(tensors: Iterable[Tensor]) -> bool:
    """Whether one of them is a DTensor."""
    return any(is_sharded(t) for t in tensors)


def local(tensor: Tensor) -> Tensor:
    """This process's shard, sharing its memory; any other tensor as it is."""
    if not is_sharded(tensor):
        return tensor
    shard: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return shard


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, gathered from its shards; any other tensor as it is."""
    if not is_sharded(tensor):
        return tensor
    gathered: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return gathered


def summed_over_shards(value: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Σ of a number over the processes among which `tensors` are sharded; (), any dtype.

    Copies are not counted twice: over mesh dimensions on which tensors are replicated (hybrid
    sharding) nothing is summed.

    Raises NotImplementedError if some are sharded and others not, or not alike.
    """
    layouts = {_layout(t) for t in tensors}
    if layouts <= {None}:
        return value
    if len(layouts) > 1:
        raise NotImplementedError("parameters that are sharded in different ways")
    (layout,) = layouts
    assert layout is not None
    mesh, sharded_dimensions = layout
    for dimension in sharded_dimensions:
        value = value.clone()
        torch.distributed.all_reduce(value, group=mesh.get_group(dimension))
    return value


def _layout(tensor: Tensor) -> tuple[Any, tuple[int, ...]] | None:
    if not is_sharded(tensor):
        return None
    placements = tensor.placements  # type: ignore[attr-defined]
    sharded = tuple(i for i, placement in enumerate(placements) if not placement.is_replicate())
    return tensor.device_mesh, sharded  # type: ignore[attr-defined]


def value_and_gradients(
    loss: Callable[[], Tensor], params: Sequence[Tensor], model: nn.Module
) -> tuple[Tensor, list[Tensor | None]]:
    """A scalar and ∂/∂θ of it, None for parameters it does not reach; `p.grad` is untouched.

    FSDP's parameters are not in the graph themselves: what its hooks reduce arrives in `p.grad`,
    averaged over the processes. So `p.grad` is put aside for the duration.
    """
    if not any_sharded(params):
        value = loss()
        return value, list(torch.autograd.grad(value, list(params), allow_unused=True))
    reshard(model)  # gathered parameters stand in for the sharded ones in the modules
    every = list(model.parameters())
    kept = [p.grad for p in every]
    try:
        for p in every:
            p.grad = None
        value = loss()
        value.backward()
        return value, [p.grad for p in params]
    finally:
        for p, grad in zip(every, kept, strict=True):
            p.grad = grad


def sharded_precision(model: nn.Module) -> torch.dtype | None:
    """The dtype that FSDP gathers parameters in, where its mixed precision sets one."""
    for module in _fsdp_modules(model):
        dtype: torch.dtype | None = module._get_fsdp_state()._mp_policy.param_dtype
        if dtype is not None:
            return dtype
    return None


def reshard(model: nn.Module) -> None:
    """Free FSDP's gathered parameters, so that the next pass gathers the shards as they are now."""
    for module in _fsdp_modules(model):
        module.reshard()


def _fsdp_modules(model: nn.Module) -> list[Any]:
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return [] if fsdp is None else [m for m in model.modules() if isinstance(m, fsdp.FSDPModule)]
