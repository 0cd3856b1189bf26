"""From a score for a wrong label to a probability, by clean rows that carry given labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from samacli.errors import counted
from samacli.training.reliability import reliability

# Clean rows that carry given labels, and of these wrong and right ones, with which the map is
# fitted. With 200 it erred by more than `_MOST` in 29 % of simulated worlds, with 500 in 5 %
# (docs/results/honesty.md has others).
ENOUGH, OF_EACH = 500, 20
_MOST = 0.05  # calibration error, on clean rows, of what is called calibrated


@dataclass(frozen=True)
class Calibration:
    """Platt scaling: P(wrong) = σ(slope · logit(s) + offset) for a raw probability s."""

    slope: float = 1.0
    offset: float = 0.0

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Raw probabilities (n,) -> calibrated ones, in the same order."""
        return 1 / (1 + np.exp(-(self.slope * _logit(raw) + self.offset)))


def calibrate(
    raw: np.ndarray, wrong: np.ndarray, weight: np.ndarray | None = None, *, least: int = 10
) -> Calibration:
    """Fit on examples whose true label is known and that the model was not trained on.

    raw: probabilities (m,); wrong: bool (m,); weight: how much each counts, mean 1. Fewer than
    `least` examples, or all alike, change nothing; nor does a fit that would turn the order round.
    """
    if len(raw) < least or wrong.all() or not wrong.any():
        return Calibration()
    odds = _logit(raw)
    centre, scale = float(odds.mean()), float(odds.std()) or 1.0
    inputs = ((odds - centre) / scale)[:, None]  # the ridge takes scores of all spreads alike
    fitted = LogisticRegression(C=1.0).fit(inputs, wrong, sample_weight=weight)
    slope = float(fitted.coef_[0, 0]) / scale
    offset = float(fitted.intercept_[0]) - slope * centre
    return Calibration(slope, offset) if slope > 0 else Calibration()


def _logit(raw: np.ndarray) -> np.ndarray:
    inside = np.clip(raw.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.log(inside) - np.log1p(-inside)


@dataclass(frozen=True)
class Calibrated:
    """P(wrong) of the training rows (n,), NaN without a label, and of clean rows that were checked.

    checked: (m,), each by a map that was fitted without it. wrong: bool (m,). weight: how much each
    counts (m,), mean 1.
    """

    probability: np.ndarray
    checked: np.ndarray
    wrong: np.ndarray
    weight: np.ndarray


def too_few(wrong: np.ndarray) -> str | None:
    """Why clean rows, of which these (m,) carry wrong labels, are too few to fit a map."""
    if len(wrong) >= ENOUGH and min(wrong.sum(), (~wrong).sum()) >= OF_EACH:
        return None
    return (
        f"{int(wrong.sum()):,} wrong and {counted(int((~wrong).sum()), 'right label')} of clean "
        "rows are "
        f"known, and it takes {ENOUGH} in all, {OF_EACH} of each"
    )


def calibrated(
    raw: np.ndarray,
    clean_raw: np.ndarray,
    wrong: np.ndarray,
    weight: np.ndarray,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Calibrated | str:
    """Probabilities of wrong labels from scores by models that were not trained on the rows.

    raw: scores in [0, 1] (n,) of the training rows; clean_raw: (m,) of clean rows that carry given
    labels, by models of the same making, and `wrong` (m,) which of these are. weight: as in
    `Calibrated`, where clean rows were drawn unlike the training rows.

    Returns why not: too few clean rows allow it, the score does not rise with the truth, or what
    was fitted errs by more than 0.05 on clean rows.
    """
    why = too_few(wrong)
    if why is not None:
        return why
    found = calibrate(clean_raw, wrong, weight)
    if found == Calibration():
        return "wrong labels of clean rows do not score higher than right ones"
    checked = np.empty(len(wrong))
    part = np.random.default_rng(seed).permutation(np.arange(len(wrong)) % folds)
    for k in range(folds):
        others = part != k
        fitted = calibrate(clean_raw[others], wrong[others], weight[others])
        checked[~others] = fitted(clean_raw[~others])
    reliable = reliability(checked, wrong, weight)
    if reliable is None or reliable.ece > _MOST:
        error = "not known" if reliable is None else f"{reliable.ece:.3f} on clean rows"
        return f"the calibration error of what was fitted is {error}"
    return Calibrated(found(raw), checked, wrong, weight)
