"""The exponential moving average of a model in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """Of parameters and buffers; forgets the start soon: decay min(d, (1+n)/(10+n)).

    With a fixed decay of 0.99 a third of it would still be the untrained model after 100 steps.
    n is the number of averages so far; the ramp is TensorFlow's (ExponentialMovingAverage).
    n is counted on the host as well: torch's own update asks the device for it at every step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, use_buffers=True)
        self.decay, self._number = decay, 0

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the model as it is now; the first time, become it."""
        ours = [*self.module.parameters(), *self.module.buffers()]
        theirs = [*model.parameters(), *model.buffers()]
        decay = min(self.decay, (1 + self._number) / (10 + self._number))
        floats: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for own, new in zip(ours, theirs, strict=True):
            if self._number == 0:
                own.copy_(new)
            if own.is_floating_point():
                group = floats.setdefault(own.dtype, ([], []))
                group[0].append(own.detach())
                group[1].append(new.detach())
            elif self._number:
                own.copy_(own * decay + new * (1 - decay))
        if self._number:
            for owns, news in floats.values():
                torch._foreach_lerp_(owns, news, 1 - decay)
        self.n_averaged += 1
        self._number += 1

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """See torch.nn.Module."""
        found = super().load_state_dict(state_dict, *args, **options)
        self._number = int(self.n_averaged)
        return found
