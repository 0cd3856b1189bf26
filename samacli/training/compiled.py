"""A model's forward and backward passes through torch.compile."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from samacli.errors import SamaError


class Compiled(nn.Module):
    """The same module, called through torch.compile.

    Hooks that are set on its layers after the first call go unseen, so passes that need any take
    the module itself.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._call = torch.compile(model)

    def forward(self, **inputs: Any) -> Any:
        """Raises SamaError where the model cannot be compiled, for want of a compiler, say."""
        try:
            return self._call(**inputs)
        except TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise SamaError(
                f"training.compile: torch.compile failed on this model: {reason}; set "
                "training.compile=false"
            ) from error
