"""The random states that training draws from: Python's, NumPy's, torch's on CPU and device."""

from __future__ import annotations

import random

import numpy as np
import torch

from samacli.store.tree import Tree


def random_state(device: torch.device) -> Tree:
    """All of them as a tree."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": {"version": version, "numbers": list(numbers), "gauss": gauss},
        "numpy": {
            "name": str(name),
            "keys": np.asarray(keys).tolist(),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "device": None
        if device.type == "cpu"
        else torch.get_device_module(device).get_rng_state(device),
    }


def restore_random_state(tree: Tree, device: torch.device) -> None:
    """Set all of them to what `random_state` gave."""
    python, numpy = tree["python"], tree["numpy"]
    random.setstate((python["version"], tuple(python["numbers"]), python["gauss"]))
    np.random.set_state(
        (
            numpy["name"],
            np.array(numpy["keys"], dtype=np.uint32),
            numpy["position"],
            numpy["has_gauss"],
            numpy["cached"],
        )
    )
    torch.set_rng_state(tree["torch"])
    if tree["device"] is not None:
        torch.get_device_module(device).set_rng_state(tree["device"], device)
