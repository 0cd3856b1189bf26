"""Whether pruning by a learned weight keeps wrong labels.

With the training data as their own meta data the learned weights rise with the loss, and wrong
labels have the highest; with clean meta data they fall. Which it was shows in the run itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import linregress, spearmanr

from samacli.pruning.noise_rate import NoiseRate

Case = Literal["keeps hard", "cleans", "undecided"]
_CLEAR_CORRELATION = 0.1  # rank correlations nearer to 0 decide nothing


@dataclass(frozen=True)
class Diagnosis:
    """correlation: Spearman's, of weight with loss. slope: of the weight, a nat of loss.

    doubted: fraction of the labels that pruning takes for wrong; 1 where it was asked for, but
    nothing tells which, so that all are trusted alike; None where it was not asked for.
    noise_rate: what is known of the fraction that is wrong; None where nothing was asked.
    warning: one sentence with the mend, where the case is dangerous.
    """

    case: Case
    correlation: float
    slope: float
    doubted: float | None
    noise_rate: NoiseRate | None
    warning: str | None

    @property
    def sentence(self) -> str:
        """The case in words."""
        said = {
            "keeps hard": "learned weights rise with the loss: what is hard to learn counts more",
            "cleans": "learned weights fall with the loss: what is easy to learn counts more",
            "undecided": "learned weights hardly depend on the loss",
        }[self.case]
        said += f" (rank correlation {self.correlation:+.2f})"
        if self.noise_rate is not None:
            said += f"; {self.noise_rate.sentence}"
        if self.doubted is not None:
            taken = f"takes {self.doubted:.0%} of them for wrong"
            if self.doubted == 1:
                taken = "trusts all alike, since nothing tells which are wrong"
            said += f"; pruning {taken}"
        return said


def diagnose(
    weight: np.ndarray,
    loss: np.ndarray,
    *,
    doubted: float | None,
    noise_rate: NoiseRate | None = None,
) -> Diagnosis:
    """Which case a run is in.

    weight: learned, (n,). loss: with the given labels (n,) in nats, nan without one.
    doubted: the fraction of labels that is taken for wrong, where one is: these rows are pruned
    first, whatever they weigh.
    """
    measured = np.isfinite(loss) & np.isfinite(weight)
    weight, loss = weight[measured], loss[measured]
    correlation = slope = 0.0
    if len(weight) > 1 and np.ptp(weight) > 0 and np.ptp(loss) > 0:
        correlation = float(spearmanr(weight, loss).statistic)
        slope = float(linregress(loss, weight).slope)
    case: Case = "undecided"
    if abs(correlation) > _CLEAR_CORRELATION:
        case = "keeps hard" if correlation > 0 else "cleans"
    return Diagnosis(case, correlation, slope, doubted, noise_rate, _warning(case, doubted))


def _warning(case: Case, doubted: float | None) -> str | None:
    if doubted is not None and doubted > 0.5:
        how_many = "nearly all" if doubted == 1 else f"up to {doubted:.0%} of the"
        return (
            f"{how_many} labels disagree with a model that has not seen them, so "
            "neither can be trusted; give a clean set (--meta FILE, 10 examples a class are enough "
            "to start), or train longer if the model has hardly learnt"
        )
    if doubted is not None or case != "keeps hard":
        return None
    return (
        "the weights rise with the loss, so the score keeps what is hard to learn, and wrong "
        "labels are hard to learn; if labels may be wrong, set prune.trust=auto, or give "
        "--meta FILE (or data.meta=train data.meta_per_class=10)"
    )
