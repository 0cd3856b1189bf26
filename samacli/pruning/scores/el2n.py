"""EL2N: how far the prediction is from the label, early in training."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from samacli.pruning.scores.running import Running
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_mean import WindowMean, where_labelled

# Paul et al. 2021 take epoch 20 of 200, DeepCore epoch 10: 5 % to 10 %; up to 20 %, so that short
# runs have visits there too. Not the start: an untrained model's errors tell nothing of the data
# (Kirsch 2023 on GraNd at initialisation).
EARLY = (0.05, 0.2)


class EL2N(Running):
    """‖p(x) − onehot(y)‖₂, the mean over early visits; the largest (hardest) are kept.

    Paul, Ganguli, Dziugaite: "Deep learning on a data diet: finding important examples early in
    training" (NeurIPS 2021), definition 2.2. The paper takes the error once, about a tenth of the
    way through training, as the mean over ten models; here it is the mean over the visits around
    then, with the predictions of the training steps themselves: average `result` over runs for
    more models. Wrong labels are among the hardest.

    Args:
        window: (start, stop), the part of the run whose visits count; see `WindowMean`.
    """

    needs_features: ClassVar[bool] = False

    def __init__(
        self,
        examples: int,
        *,
        window: tuple[float, float] = EARLY,
        device: torch.device | str = "cpu",
    ) -> None:
        self._mean = WindowMean(examples, window, device)

    def observe(self, seen: Observation) -> None:
        self._mean.add(seen, error_norm(seen))

    def result(self) -> np.ndarray:
        return self._mean.result()


def error_norm(seen: Observation) -> Tensor:
    """‖p − onehot(y)‖₂ (b,), NaN for rows without a label."""
    known = seen.labels.clamp_min(0)[:, None]
    error = seen.probabilities.scatter_add(
        1, known, torch.full_like(known, -1, dtype=seen.probabilities.dtype)
    )
    return where_labelled(torch.linalg.vector_norm(error, dim=1), seen.labels)
