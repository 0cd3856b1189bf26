"""Which given labels are wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit, softmax
from scipy.stats import norm
from sklearn.mixture import GaussianMixture

# A label is trusted if it is right with more than this probability: one wrong label among the kept
# costs as much as four right ones give. Hard-first ordering gathers whatever is wrong at its front.
TRUSTED = 0.8
_FITTED_ON = 100_000  # rows; two means and two variances need no more
_FEWEST = 10  # rows that say anything of two components
_TAIL = 0.02  # at either end, of the losses
_LEAST = 1e-4  # share of a component
_ROUNDS, _STILL = 300, 1e-4  # of its fit; means that move less have converged


@dataclass(frozen=True)
class LabelNoise:
    """What is known of n given labels.

    rate: estimated fraction of wrong labels. right: (n,), probability that the given label is
    right; nan for rows without one.
    """

    rate: float
    right: np.ndarray

    @property
    def trusted(self) -> np.ndarray:
        """bool (n,): rows whose label is right with a probability above `TRUSTED`."""
        return np.nan_to_num(self.right, nan=0.0) > TRUSTED


def estimate_label_noise(losses: np.ndarray, between: tuple[float, float]) -> LabelNoise:
    """Each label's probability of being right, from the losses that rows had during training.

    These have two populations, right labels with the smaller ones and wrong labels with the larger;
    a mixture of two Gaussians tells them apart (Arazo et al. 2019; Li et al. 2020, "DivideMix").
    The probability is the posterior of the component with the smaller mean, made monotone: of two
    Gaussians the wider one has both tails, and the smallest losses would count as wrong.

    The mixture finds two populations also where there is one: the larger losses may be right labels
    of what is hard to learn. Or it takes a long tail for one: it is fitted to values of which the
    outer fiftieths are moved inwards. And where its share of wrong labels is not between the
    bounds, it is fitted again with the nearer bound for that share.

    Args:
        losses: (n,), over the run (`samacli.pruning.scores.MeanLoss`); nan for none.
        between: bounds of the fraction of wrong labels, from elsewhere
            (`samacli.pruning.noise_rate.rate_of_wrong_labels`).
    """
    low, high = between
    right = np.full(len(losses), np.nan)
    known = np.flatnonzero(np.isfinite(losses))
    spread = float(np.ptp(losses[known])) if known.size else 0.0
    if known.size < _FEWEST or spread == 0:
        right[known] = 1 - high
        return LabelNoise(high, right)
    values = (losses[known] - losses[known].mean()) / losses[known].std()
    falling = _falling(values, _posterior(values, low, high))
    rate = min(float(1 - falling.mean()), high)
    right[known] = _with_mean(falling, 1 - rate)
    return LabelNoise(rate, right)


def _posterior(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """P(right | value) (n,), by a mixture whose share of wrong labels is between the bounds."""
    sample = np.clip(values, *np.quantile(values, [_TAIL, 1 - _TAIL]))
    if len(values) > _FITTED_ON:
        sample = np.random.default_rng(0).choice(sample, _FITTED_ON, replace=False)
    mixture = GaussianMixture(2, random_state=0).fit(sample[:, None])
    smaller = int(mixture.means_[:, 0].argmin())
    share = float(1 - mixture.weights_[smaller])
    if low <= share <= high:
        posterior: np.ndarray = mixture.predict_proba(values[:, None])[:, smaller]
        return posterior
    share = float(np.clip(np.clip(share, low, high), _LEAST, 1 - _LEAST))
    weights = np.array([1 - share, share])
    # Expectation maximisation, as scikit-learn's but for the weights, which it has no way to fix.
    means = np.quantile(sample, [(1 - share) / 2, 1 - share / 2])
    deviations = np.full(2, sample.std())
    for _ in range(_ROUNDS):
        belongs = softmax(np.log(weights) + norm.logpdf(sample[:, None], means, deviations), axis=1)
        before, means = means, np.average(sample[:, None].repeat(2, 1), axis=0, weights=belongs)
        squares = (sample[:, None] - means) ** 2
        deviations = np.sqrt(np.average(squares, axis=0, weights=belongs) + 1e-6)
        if np.abs(means - before).max() < _STILL:
            break
    logs = np.log(weights) + norm.logpdf(values[:, None], means, deviations)
    fitted: np.ndarray = softmax(logs, axis=1)[:, 0]
    return fitted


def _falling(losses: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Probabilities (n,) that do not rise with the loss: to the left of the highest it goes on."""
    order = np.argsort(losses, kind="stable")
    ordered = probability[order]
    ordered[: ordered.argmax()] = ordered.max()
    falling = np.empty_like(probability)
    falling[order] = np.minimum.accumulate(ordered)
    return falling


def _with_mean(probability: np.ndarray, mean: float) -> np.ndarray:
    """Probabilities (n,) whose odds have all been multiplied so that their mean is `mean`."""
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    odds = logit(inside)
    least, most = 1e-9, 1 - 1e-9
    wanted = min(max(mean, least), most)
    return expit(odds + brentq(lambda shift: expit(odds + shift).mean() - wanted, -80.0, 80.0))
