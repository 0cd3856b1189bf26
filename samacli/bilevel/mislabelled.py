"""How probable it is that a given label is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

_LEAST = 10  # examples that say something about how a probability should be corrected


@dataclass(frozen=True)
class Calibration:
    """Platt scaling: P(wrong) = σ(slope · logit(s) + offset) for a raw probability s."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Raw probabilities (n,) -> calibrated ones, in the same order."""
        return 1 / (1 + np.exp(-(self.slope * _logit(raw) + self.offset)))


def calibrate(raw: np.ndarray, wrong: np.ndarray) -> Calibration:
    """Fit on examples whose true label is known and that the model was not trained on.

    raw: probabilities (m,); wrong: bool (m,). Too few examples, or all alike, change nothing; nor
    does a fit that would turn the order round.
    """
    if len(raw) < _LEAST or wrong.all() or not wrong.any():
        return Calibration()
    fitted = LogisticRegression(C=1.0).fit(_logit(raw)[:, None], wrong)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    return Calibration(slope, offset) if slope > 0 else Calibration()


def _logit(raw: np.ndarray) -> np.ndarray:
    inside = np.clip(raw.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(inside) - np.log1p(-inside)
