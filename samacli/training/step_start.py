"""What the passes of a step change besides gradients, to go back to when the step fails."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StepStart:
    """Random state and buffers (batch-norm statistics) of a model, taken at the start of each step.

    The copies' memory is used again at every step.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = None if device.type == "cpu" else device
        self._buffers: dict[torch.dtype, list[Tensor]] = {}
        for buffer in model.buffers():
            self._buffers.setdefault(buffer.dtype, []).append(buffer)
        self._copies = {
            dtype: [torch.empty_like(b) for b in buffers]
            for dtype, buffers in self._buffers.items()
        }
        self.take()

    def take(self) -> None:
        """Now is the start of a step."""
        self._host_random = torch.get_rng_state()
        if self._device is not None:
            module = torch.get_device_module(self._device)
            self._device_random = module.get_rng_state(self._device)
        self._copy(self._buffers, self._copies)

    def restore_random_state(self) -> None:
        torch.set_rng_state(self._host_random)
        if self._device is not None:
            module = torch.get_device_module(self._device)
            module.set_rng_state(self._device_random, self._device)

    def restore_buffers(self) -> None:
        self._copy(self._copies, self._buffers)

    @staticmethod
    @torch.no_grad()
    def _copy(
        source: dict[torch.dtype, list[Tensor]], target: dict[torch.dtype, list[Tensor]]
    ) -> None:
        for dtype, tensors in source.items():
            torch._foreach_copy_(target[dtype], tensors)
