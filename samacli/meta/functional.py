"""What torch's function transforms lack here and there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class _Call(nn.Module):
    """Wraps a function of a model as a module, so that `functional_call` can run it."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module], Tensor]) -> None:
        super().__init__()
        self.model = model
        self._function = function

    def forward(self) -> Tensor:
        return self._function(self.model)


def call_with(
    function: Callable[[nn.Module], Tensor],
    model: nn.Module,
    params: Sequence[Tensor],
    values: Sequence[Tensor],
) -> Tensor:
    """function(model) with `values` for `params`; the model is not changed, tied weights stay tied.

    Raises ValueError if a parameter is not the model's.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    if any(id(p) not in names for p in params):
        raise ValueError("the optimiser trains parameters that are not the model's")
    by_name: dict[str, Any] = {
        f"model.{names[id(p)]}": value for p, value in zip(params, values, strict=True)
    }
    return torch.func.functional_call(_Call(model, function), by_name, ())


@contextmanager
def overwriting_allowed() -> Iterator[None]:
    """What autograd saves inside is saved as a copy, so that it may be written over afterwards.

    Optimisers do that with their intermediate results, and so do some of torch's forward-mode
    formulas (log_softmax), which then can't be differentiated again.
    """
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        yield


def each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Nested lists, tuples and dicts with `change` applied to the tensors in them.

    The containers are new ones of the same classes; anything else is passed on as it is. A tenth
    of the time of torch's `tree_map`, which counts where it is done for every operation.
    """
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(each_tensor(v, change) for v in value))
    if isinstance(value, list | tuple):
        return type(value)([each_tensor(v, change) for v in value])
    if isinstance(value, dict):
        changed = copy.copy(value)  # which keeps the default of a defaultdict
        for key, v in value.items():
            changed[key] = each_tensor(v, change)
        return changed
    return value
