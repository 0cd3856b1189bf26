"""An optimiser's state as a tree (`samacli.store.tree`), whatever the optimiser."""

from __future__ import annotations

from typing import Any

import torch

from samacli.store.tree import Tree


def optimizer_state(optimizer: torch.optim.Optimizer) -> Tree:
    """Moments and counters of each parameter by its number, and the settings of each group."""
    found = optimizer.state_dict()
    return {
        "state": {str(number): dict(values) for number, values in found["state"].items()},
        "groups": [dict(group) for group in found["param_groups"]],
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tree: Tree) -> None:
    """Bring an optimiser over equal parameters, in equal groups, to a state that was saved.

    Raises ValueError if groups or their sizes differ.
    """
    groups = []
    for saved, own in zip(tree["groups"], optimizer.param_groups, strict=True):
        groups.append({name: _like(own.get(name), value) for name, value in saved.items()})
    state = {int(number): values for number, values in tree["state"].items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _like(own: Any, value: Any) -> Any:
    """JSON knows no tuples."""
    return tuple(value) if isinstance(own, tuple) else value
