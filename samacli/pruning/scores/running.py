"""Statistics that a checkpoint takes along."""

from __future__ import annotations

from typing import Any

from torch import Tensor


class Running:
    """An object whose state is its tensors, and those of other such objects that it holds."""

    def state_dict(self) -> dict[str, Any]:
        """All of them by name, for a checkpoint."""
        return {
            name: value if isinstance(value, Tensor) else value.state_dict()
            for name, value in vars(self).items()
            if isinstance(value, Tensor | Running)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name, saved in state.items():
            own = getattr(self, name)
            if isinstance(own, Tensor):
                own.copy_(saved)
            else:
                own.load_state_dict(saved)
