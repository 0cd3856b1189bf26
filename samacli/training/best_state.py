"""Early stopping without stopping: the best state on held-out data, at even points of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from samacli.meta.preserve import preserved

VALIDATIONS = 10

# How good a model is on held-out data: higher is better, the first number first.
Validate = Callable[[nn.Module], tuple[float, ...]]


class BestState:
    """Keeps, on the CPU, the state that scored best; of equals the first.

    The whole schedule is run: under a decaying rate, stopping would be a choice of schedule too.
    Validation leaves no trace in the random state or the model's buffers, so that the run is the
    one that it would have been without.

    Args:
        validate: the score of a model.
        steps: of the run; it is validated after VALIDATIONS even points of them, the last included.
    """

    def __init__(self, validate: Validate, steps: int) -> None:
        self.validate = validate
        self.points = {max(1, round(steps * i / VALIDATIONS)) for i in range(1, VALIDATIONS + 1)}
        self.score: tuple[float, ...] | None = None
        self.step = 0
        self._states: list[dict[str, torch.Tensor]] = []

    def look(self, step: int, modules: Sequence[nn.Module]) -> None:
        """Score `modules[0]` after `step` steps, if it is time; keep all of them if it is best."""
        if step not in self.points:
            return
        with preserved(modules[0]):
            score = self.validate(modules[0])
        if self.score is None or score > self.score:
            self.score, self.step = score, step
            self._states = [
                {
                    name: value.detach().to("cpu", copy=True)
                    for name, value in module.state_dict().items()
                }
                for module in modules
            ]

    def state_dict(self) -> dict[str, Any]:
        """The best so far, for a checkpoint."""
        return {"score": self.score, "step": self.step, "states": self._states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.score = None if state["score"] is None else tuple(state["score"])
        self.step, self._states = state["step"], state["states"]

    def restore(self, modules: Sequence[nn.Module]) -> None:
        """Bring `modules` back to the best state."""
        for module, state in zip(modules, self._states, strict=True):
            module.load_state_dict(state)
