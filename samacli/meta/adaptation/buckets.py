"""What a closed form is applied to: blocks of parameters whose last steps had the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samacli.meta.adaptation.closed_forms import Block, Group
from samacli.meta.shards import local, summed_over_shards

SCALARS = ("step", "mu_product")

# An update formula is a dozen element-wise operations. In one go over the whole model each of
# them would need a temporary of the model's size; in blocks, the temporaries are of one block.
# Measured on one thread of a CPU (22.7 M parameters, AdamW, whose fused step takes 15 ms): blocks
# of 32k elements 97 ms, 64k 79 ms, 128k 72 ms, 256k 68 ms, 512k 81 ms. The formula as one kernel
# (torch.compile) took 34 ms, but 3 s of start-up in every run and 16 s in the first: a saving of
# 2 % of a step, whose backward pass takes 700 ms.
CPU_BLOCK = 1 << 18
GPU_BLOCK = 1 << 24


@dataclass
class Bucket:
    """Parameters of one group, device, dtype and count of steps.

    group: the optimiser's parameter group (lr, betas, ...).
    scalars: the numbers in the parameters' state: "step" (t, the last step included), and
        "mu_product" for NAdam.
    The tensors are this process's shards where parameters are sharded, else whole.
    vectors: the x to be turned into (∂u/∂g)ᵀ·x in place.
    """

    group: Group
    scalars: dict[str, float]
    params: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    states: list[dict[str, Any]] = field(default_factory=list)
    vectors: list[Tensor] = field(default_factory=list)

    def blocks(self) -> Iterator[Block]:
        """Pieces of about equal numbers of elements, one after the other.

        They are flat views: writing to one writes to its tensor. Tensors that are not contiguous
        are handed out whole.
        """
        state = self._state()
        columns = (self.vectors, self.grads, self.params, *state.values())
        size = CPU_BLOCK if self.params[0].device.type == "cpu" else GPU_BLOCK
        for part in _in_blocks(columns, size):
            yield Block(part[0], part[1], part[2], dict(zip(state, part[3:], strict=True)))

    def _state(self) -> dict[str, list[Tensor]]:
        """The state tensors that have the parameters' shapes, by name."""
        columns: dict[str, list[Tensor]] = {}
        for name, value in self.states[0].items():
            if name in SCALARS or not isinstance(value, Tensor):
                continue
            column: list[Tensor] = [state[name] for state in self.states]
            if all(t.shape == p.shape for t, p in zip(column, self.params, strict=True)):
                columns[name] = column
        return columns


class _Row(NamedTuple):
    """One parameter (its shard) with what belongs to it."""

    group: int
    param: Tensor
    grad: Tensor
    state: dict[str, Any]
    vector: Tensor


def fill_buckets(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor], vectors: Sequence[Tensor]
) -> list[Bucket]:
    """Sort the parameters that took part in the last step into buckets.

    The vectors of parameters without a gradient become 0: they did not move, so ∂u/∂g = 0.
    Raises ValueError if a gradient or vector is not sharded as its parameter is, RuntimeError if
    no step has been taken.
    """
    rows = _rows(optimizer, dict(zip(params, vectors, strict=True)))
    columns = {name: _numbers([row.state for row in rows], name) for name in SCALARS}
    if isinstance(optimizer, torch.optim.SGD):
        columns["step"] = _sgd_steps(optimizer, rows, params)
    buckets: dict[tuple[Any, ...], Bucket] = {}
    for row, *numbers in zip(rows, *columns.values(), strict=True):
        scalars = {n: v for n, v in zip(columns, numbers, strict=True) if v is not None}
        key = (row.group, row.param.device, row.param.dtype, *scalars.items())
        bucket = buckets.setdefault(key, Bucket(optimizer.param_groups[row.group], scalars))
        bucket.params.append(row.param)
        bucket.grads.append(row.grad)
        bucket.states.append(row.state)
        bucket.vectors.append(row.vector)
    return list(buckets.values())


def _rows(optimizer: torch.optim.Optimizer, wanted: dict[Tensor, Tensor]) -> list[_Row]:
    rows = []
    for group, settings in enumerate(optimizer.param_groups):
        stateless = isinstance(optimizer, torch.optim.SGD) and settings["momentum"] == 0
        for param in settings["params"]:
            if param not in wanted:
                continue
            vector = local(wanted[param])
            if param.grad is None:
                vector.zero_()
                continue
            if param.grad.is_sparse:
                raise NotImplementedError("the adaptation does not take sparse gradients")
            if param.is_complex():
                raise NotImplementedError("the adaptation does not take complex parameters")
            shard, grad = local(param).detach(), local(param.grad)
            if not shard.shape == grad.shape == vector.shape:
                raise ValueError("gradients and vectors have to be sharded as the parameters are")
            state = {
                name: local(value) if isinstance(value, Tensor) else value
                for name, value in optimizer.state.get(param, {}).items()
            }
            if not state and not stateless:
                raise RuntimeError("take the meta gradient after optimizer.step(): it has no state")
            rows.append(_Row(group, shard, grad, state, vector))
    return rows


def _sgd_steps(
    optimizer: torch.optim.SGD, rows: Sequence[_Row], params: Sequence[Tensor]
) -> list[float | None]:
    """1 after a parameter's first step, 2 after any later one, and where it makes no difference."""
    if not any(_dampened(group) for group in optimizer.param_groups):
        return [2.0] * len(rows)
    later = [
        not (_dampened(group) and _like_first_step(group, row.param, row.grad, row.state))
        for row in rows
        for group in [optimizer.param_groups[row.group]]
    ]
    # every shard of a parameter has to be treated alike, whatever it looks like by itself
    where = local(params[0]).device
    shards = summed_over_shards(torch.tensor(later, dtype=torch.float32, device=where), params)
    return [2.0 if n else 1.0 for n in shards.tolist()]


def _dampened(group: Group) -> bool:
    """Whether ∂u/∂g of the first step differs from the later ones'."""
    return float(group["dampening"]) != 0 and float(group["momentum"]) != 0


def _like_first_step(group: Group, param: Tensor, grad: Tensor, state: dict[str, Any]) -> bool:
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


def _numbers(states: list[dict[str, Any]], name: str) -> list[float | None]:
    """One number of every state; those on an accelerator are fetched in one transfer."""
    numbers: list[float | None] = [None] * len(states)
    tensors: dict[torch.device, list[int]] = {}
    for i, state in enumerate(states):
        value = state.get(name)
        if isinstance(value, Tensor):
            tensors.setdefault(value.device, []).append(i)
        elif value is not None:
            numbers[i] = float(value)
    for where in tensors.values():
        fetched = torch.stack([states[i][name].reshape(()) for i in where]).tolist()
        for i, value in zip(where, fetched, strict=True):
            numbers[i] = value
    return numbers


def _in_blocks(columns: Sequence[Sequence[Tensor]], size: int) -> Iterator[list[list[Tensor]]]:
    """Walk over parallel lists of tensors, `size` elements of each at a time."""
    block: list[list[Tensor]] = [[] for _ in columns]
    filled = 0
    for row in zip(*columns, strict=True):
        for pieces in _split(row, size):
            for part, piece in zip(block, pieces, strict=True):
                part.append(piece)
            filled += pieces[0].numel()
            if filled >= size:
                yield block
                block, filled = [[] for _ in columns], 0
    if filled:
        yield block


def _split(row: tuple[Tensor, ...], size: int) -> Iterator[tuple[Tensor, ...]]:
    if not all(t.is_contiguous() for t in row):
        return iter([row])
    flat = tuple(t.view(-1) for t in row)
    if flat[0].numel() <= size:
        return iter([flat])
    return zip(*(t.split(size) for t in flat), strict=True)
