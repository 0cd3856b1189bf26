"""CCS: what coverage-centric selection stratifies on, and the hard end that it leaves out."""

from __future__ import annotations

import numpy as np

from samacli.errors import SamaError
from samacli.pruning.scores.aum import AUM


class CCS(AUM):
    """AUM, from which coverage-centric selection draws in strata.

    Zheng et al.: "Coverage-centric coreset selection for high pruning rates" (ICLR 2023), algorithm
    1: leave out the share β of the hardest examples (`without_hardest`), cut the range of the
    remaining scores into strata of equal width, and draw alike from each. Kept by rank alone it is
    AUM.
    """


def without_hardest(scores: np.ndarray, beta: float) -> np.ndarray:
    """Which rows stay eligible (n,) bool when the share β of lowest `scores` (n,) is left out.

    The lowest AUM are mislabelled, or too hard for a small subset. β depends on how much is pruned:
    the paper searches it for each rate; its code's example is 0.3 where 10 % of CIFAR-10 is kept.
    β is a share of all n rows; rows without a score (NaN) are not eligible.

    Raises:
        SamaError: β is not in [0, 1).
    """
    if not 0 <= beta < 1:
        raise SamaError(f"beta {beta:g} (the share of hardest rows left out) must be in [0, 1)")
    eligible = ~np.isnan(scores)
    hardest = np.argsort(scores, kind="stable")[: round(beta * len(scores))]
    eligible[hardest] = False
    return eligible
