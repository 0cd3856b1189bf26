"""What a learned weight has to do with the loss: whether pruning by it cleans or keeps what's hard.

With the training data as their own meta data the weights rise with the loss, and wrong labels have
the highest; with clean meta data they fall. Which it was shows in the run itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import linregress, spearmanr

Case = Literal["keeps hard", "cleans", "undecided"]
_CLEAR = 0.1  # rank correlations nearer to 0 decide nothing


@dataclass(frozen=True)
class Diagnosis:
    """correlation: Spearman's, of weight with loss. slope: of the weight, a nat of loss.

    noise_rate: estimated fraction of wrong labels; None where nothing estimated it.
    warning: one sentence with the mend, where the case is dangerous.
    """

    case: Case
    correlation: float
    slope: float
    noise_rate: float | None
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
        if self.noise_rate is None:
            return said
        return f"{said}; at most about {self.noise_rate:.0%} of the labels are wrong"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def diagnose(weight: np.ndarray, loss: np.ndarray, *, noise: float | None) -> Diagnosis:
    """Which case a run is in.

    weight: learned, (n,). loss: with the given labels (n,) in nats, nan without one.
    noise: estimated rate of wrong labels, where it was estimated: then the rows whose labels are
    believed wrong are pruned first, whatever they weigh.
    """
    measured = np.isfinite(loss) & np.isfinite(weight)
    weight, loss = weight[measured], loss[measured]
    correlation = slope = 0.0
    if len(weight) > 1 and np.ptp(weight) > 0 and np.ptp(loss) > 0:
        correlation = float(spearmanr(weight, loss).statistic)
        slope = float(linregress(loss, weight).slope)
    case: Case = "undecided"
    if abs(correlation) > _CLEAR:
        case = "keeps hard" if correlation > 0 else "cleans"
    return Diagnosis(case, correlation, slope, noise, _warning(case, noise))


def _warning(case: Case, noise: float | None) -> str | None:
    if noise is not None and noise > 0.5:
        return (
            f"up to {noise:.0%} of the labels disagree with a model that has not seen them, so "
            "neither can be trusted; give a clean set (--meta FILE, 10 examples a class are enough "
            "to start), or train longer if the model has hardly learnt"
        )
    if noise is not None or case != "keeps hard":
        return None
    return (
        "the weights rise with the loss, so the score keeps what is hard to learn, and wrong "
        "labels are hard to learn; if labels may be wrong, set prune.trust=auto, or give "
        "--meta FILE (or data.meta=train data.meta_per_class=10)"
    )
