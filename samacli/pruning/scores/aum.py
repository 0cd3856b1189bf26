"""AUM, the area under the margin: how clearly the given label wins, over the run."""

from __future__ import annotations

import torch
from torch import Tensor

from samacli.pruning.scores import formulas
from samacli.pruning.scores.score import Observation
from samacli.pruning.scores.window_score import WindowScore


class AUM(WindowScore):
    """The mean over visits of z_y − max_{c≠y} z_c, logits z, given label y.

    Pleiss et al.: "Identifying mislabeled data using the area under the margin ranking" (NeurIPS
    2020), equation 2. Mislabelled examples have a low, often negative, AUM, and its authors remove
    those: the highest (clearest) are kept. Selections that want hard examples use it from the other
    end, or in strata (`ccs`).

    Args:
        window: (start, stop), the part of the run whose visits count; see `WindowMean`. The paper
            takes all epochs of a run at a rate that has not yet fallen.
    """

    def value(self, seen: Observation) -> Tensor:
        known = seen.labels.clamp_min(0)[:, None]
        given = seen.logits.gather(1, known)[:, 0]
        others = seen.logits.scatter(1, known, -torch.inf).amax(1)
        return formulas.where_labelled(given - others, seen.labels)
