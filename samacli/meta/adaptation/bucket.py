"""Sort parameters by what their last update had in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from samacli.meta.adaptation.sgd import dampened, like_first_step
from samacli.meta.shards import local, summed_over_shards

Group = dict[str, Any]
SCALARS = ("step", "mu_product")


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

    def state(self) -> dict[str, list[Tensor]]:
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
    Raises ValueError if a gradient or vector is not sharded as its parameter is.
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
            rows.append(_Row(group, shard, grad, state, vector))
    return rows


def _sgd_steps(
    optimizer: torch.optim.SGD, rows: Sequence[_Row], params: Sequence[Tensor]
) -> list[float | None]:
    """1 after a parameter's first step, 2 after any later one, and where it makes no difference."""
    if not any(dampened(group) for group in optimizer.param_groups):
        return [2.0] * len(rows)
    later = [
        not (dampened(group) and like_first_step(group, row.param, row.grad, row.state))
        for row in rows
        for group in [optimizer.param_groups[row.group]]
    ]
    # every shard of a parameter has to be treated alike, whatever it looks like by itself
    where = local(params[0]).device
    shards = summed_over_shards(torch.tensor(later, dtype=torch.float32, device=where), params)
    return [2.0 if n else 1.0 for n in shards.tolist()]


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
