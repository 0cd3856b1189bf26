"""Sort parameters by what their last update had in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from samacli.meta.adaptation.sgd import sgd_step

Group = dict[str, Any]
SCALARS = ("step", "mu_product")


@dataclass
class Bucket:
    """Parameters of one group, device, dtype and count of steps.

    group: the optimiser's parameter group (lr, betas, ...).
    scalars: the numbers in the parameters' state: "step" (t, the last step included), and
        "mu_product" for NAdam.
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


def fill_buckets(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor], vectors: Sequence[Tensor]
) -> list[Bucket]:
    """Sort the parameters that took part in the last step into buckets.

    The vectors of parameters without a gradient become 0: they did not move, so ∂u/∂g = 0.
    """
    wanted = dict(zip(params, vectors, strict=True))
    rows = []
    for index, group in enumerate(optimizer.param_groups):
        for param in group["params"]:
            if param not in wanted:
                continue
            if param.grad is None:
                wanted[param].zero_()
                continue
            _check(param)
            rows.append((index, param, optimizer.state.get(param, {})))
    columns = [_numbers([state for _, _, state in rows], name) for name in SCALARS]
    buckets: dict[tuple[Any, ...], Bucket] = {}
    for (index, param, state), *numbers in zip(rows, *columns, strict=True):
        group = optimizer.param_groups[index]
        scalars = {n: v for n, v in zip(SCALARS, numbers, strict=True) if v is not None}
        if isinstance(optimizer, torch.optim.SGD):
            scalars["step"] = sgd_step(group, param, param.grad, state)
        key = (index, param.device, param.dtype, *scalars.items())
        bucket = buckets.setdefault(key, Bucket(group, scalars))
        bucket.params.append(param.detach())
        bucket.grads.append(param.grad)
        bucket.states.append(state)
        bucket.vectors.append(wanted[param])
    return list(buckets.values())


def _check(param: Tensor) -> None:
    if param.grad is not None and param.grad.is_sparse:
        raise NotImplementedError("the adaptation does not take sparse gradients")
    if param.is_complex():
        raise NotImplementedError("the adaptation does not take complex parameters")


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
