"""Scores that are the mean of something seen at each visit in a part of the run."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from samacli.pruning.scores.running import Running
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_mean import WindowMean


class WindowScore(Running):
    """The mean of `value` over a row's visits in `window`, see `WindowMean`.

    Args:
        examples: number of rows n of the training split.
        window: (start, stop), the part of the run whose visits count; default: the class's.
    """

    needs_features: ClassVar[bool] = False
    window: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def __init__(
        self,
        examples: int,
        *,
        window: tuple[float, float] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._mean = WindowMean(examples, window or self.window, device)

    @abstractmethod
    def value(self, seen: Observation) -> Tensor:
        """What one visit says of each row (b,); NaN where that takes a label and there is none."""

    def observe(self, seen: Observation) -> None:
        self._mean.add(seen, self.value(seen))

    def result(self) -> np.ndarray:
        return self._mean.result()
