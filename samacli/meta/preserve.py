"""Leave no trace: random state and buffers come out of a meta step as they went in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Rewind = Callable[[], None]


@contextmanager
def preserved(*modules: nn.Module) -> Iterator[Rewind]:
    """Restore the random state and the modules' buffers on exit, also after an error.

    Yields `rewind()`, which sets the random state back to that at entry: passes that start with
    it draw the same dropout masks. Buffers are restored bit for bit, those replaced by
    assignment as well as those written in place (batch-norm statistics).
    """
    devices = {p.device for m in modules for p in m.parameters() if p.device.type != "cpu"}
    host_state = torch.get_rng_state()
    device_states = [(d, torch.get_device_module(d).get_rng_state(d)) for d in devices]
    buffers = _buffers(modules)
    copies = [b.clone() for _, _, b in buffers]

    def rewind() -> None:
        torch.set_rng_state(host_state)
        for device, state in device_states:
            torch.get_device_module(device).set_rng_state(state, device)

    try:
        yield rewind
    finally:
        rewind()
        with torch.no_grad():
            for (module, name, buffer), copy in zip(buffers, copies, strict=True):
                module._buffers[name] = buffer
                buffer.copy_(copy)


def _buffers(modules: tuple[nn.Module, ...]) -> list[tuple[nn.Module, str, Tensor]]:
    return [
        (module, name, buffer)
        for root in modules
        for module in root.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
