"""EL2N: how far the prediction is from the label, early in training."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from samacli.pruning.scores import formulas
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_score import WindowScore

# Paul et al. 2021 take epoch 20 of 200, DeepCore epoch 10: 5 % to 10 %; up to 20 %, so that short
# runs have visits there too. Not the start: an untrained model's errors tell nothing of the data
# (Kirsch 2023 on GraNd at initialisation).
EARLY = (0.05, 0.2)


class EL2N(WindowScore):
    """‖p(x) − onehot(y)‖₂, the mean over early visits; the largest (hardest) are kept.

    Paul, Ganguli, Dziugaite: "Deep learning on a data diet: finding important examples early in
    training" (NeurIPS 2021), definition 2.2. The paper takes the error once, about a tenth of the
    way through training, as the mean over ten models; here it is the mean over the visits around
    then, with the predictions of the training steps themselves: average `result` over runs for
    more models. Wrong labels are among the hardest.
    """

    window: ClassVar[tuple[float, float]] = EARLY

    def value(self, seen: Observation) -> Tensor:
        return formulas.el2n(seen.probabilities, seen.labels)
