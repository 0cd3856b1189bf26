"""AUM, the area under the margin: how clearly the given label wins, over the run."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch

from samacli.pruning.scores.running import Running
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_mean import WindowMean, where_labelled


class AUM(Running):
    """The mean over visits of z_y − max_{c≠y} z_c, logits z, given label y.

    Pleiss et al.: "Identifying mislabeled data using the area under the margin ranking" (NeurIPS
    2020), equation 2. Mislabelled examples have a low, often negative, AUM, and its authors remove
    those: the highest (clearest) are kept. Selections that want hard examples use it from the other
    end, or in strata (`ccs`).

    Args:
        window: (start, stop), the part of the run whose visits count; see `WindowMean`. The paper
            takes all epochs of a run at a rate that has not yet fallen.
    """

    needs_features: ClassVar[bool] = False

    def __init__(
        self,
        examples: int,
        *,
        window: tuple[float, float] = (0.0, 1.0),
        device: torch.device | str = "cpu",
    ) -> None:
        self._mean = WindowMean(examples, window, device)

    def observe(self, seen: Observation) -> None:
        known = seen.labels.clamp_min(0)[:, None]
        given = seen.logits.gather(1, known)[:, 0]
        others = seen.logits.scatter(1, known, -torch.inf).amax(1)
        self._mean.add(seen, where_labelled(given - others, seen.labels))

    def result(self) -> np.ndarray:
        return self._mean.result()
