"""How many given labels are wrong, and which, by predictions of models that did not see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, log_softmax, logit

# A label is trusted if it is right with more than this probability: one wrong label among the kept
# costs as much as four right ones give. Hard-first ordering gathers whatever is wrong at its front.
TRUSTED = 0.8
ANCHORS = 0.2  # of the rows predicted as a class, the most confident, tell how it is mislabelled
_PSEUDO = 20.0  # anchors a class that the mean over the classes counts for in its own row of T
_LEAST_PART = 1e-3  # of p̃ that p keeps where p̃ T⁻¹ is negative: ties would lose the order


@dataclass(frozen=True)
class LabelNoise:
    """What held-out predictions say of n given labels of c classes.

    rate: estimated fraction of wrong labels. error: its standard error.
    transition: T (c, c), P(given j | true k).
    right: (n,), probability that the given label is right; nan for rows without one.
    """

    rate: float
    error: float
    transition: np.ndarray
    right: np.ndarray

    @property
    def trusted(self) -> np.ndarray:
        """bool (n,): rows whose label is right with a probability above `TRUSTED`."""
        return np.nan_to_num(self.right, nan=0.0) > TRUSTED


def estimate_label_noise(logits: np.ndarray, labels: np.ndarray) -> LabelNoise:
    """Noise rate, transition matrix and each label's probability of being right.

    A model fitted on noisy labels and asked about rows that it has not seen estimates
    p̃(j|x) = Σ_k p(k|x) T_kj with p the clean posterior. Where it is most confident of class k, p is
    nearly one-hot ("anchor points": Liu and Tao 2016; Patrini et al. 2017), so the given labels
    there are drawn from row k of T. T_kj is their frequency among the anchors (not p̃, which would
    have to be calibrated), each class's row drawn toward the mean over the classes where there are
    few. The rate is Σ_k P(predicted k) (1 − T_kk): an upper bound, since anchors that are
    mistaken count as wrong labels.

    Then, with p = p̃ T⁻¹, its negative parts cut off, and p̃ calibrated by a temperature,

        P(right | x, given y) = p(y|x) T_yy / Σ_k p(k|x) T_ky

    which is 1 for all where there is no noise, and 0 where p̃(y|x) is no more than what wrong labels
    alone would give. So what is hard to learn is not yet taken for wrong. Its odds are multiplied
    by the one factor that makes its mean 1 − rate (a change of prior, Saerens et al. 2002): p̃ is
    not as well calibrated far from its mean as the anchors' count.

    Args:
        logits: (n, c), each row's from a model that was not trained on it; up to a constant a row.
        labels: (n,) given labels, −1 for none.
    """
    known = np.flatnonzero(labels >= 0)
    classes = logits.shape[1]
    right = np.full(len(labels), np.nan)
    if not known.size:
        return LabelNoise(float("nan"), float("nan"), np.eye(classes), right)
    given = labels[known]
    noisy = np.exp(log_softmax(logits[known] * _inverse_temperature(logits[known], given), axis=1))
    predicted = noisy.argmax(1)

    anchors = np.concatenate([_most_confident(noisy[:, k], predicted == k) for k in range(classes)])
    wrong = float(np.mean(predicted[anchors] != given[anchors]))
    count = len(anchors)
    # Half an anchor more of either kind: none found wrong among few does not say that none is.
    base = (wrong * count + 0.5) / (count + 1)
    transition = _transition(predicted[anchors], given[anchors], classes, base)

    shares = np.bincount(predicted, minlength=classes) / len(given)
    rate = float(shares @ (1 - np.diag(transition)))
    clean = np.maximum(noisy @ np.linalg.pinv(transition), _LEAST_PART * noisy)
    belief = clean / clean.sum(1, keepdims=True)
    own = belief[np.arange(len(given)), given] * np.diag(transition)[given]
    all_ways = (belief * transition[:, given].T).sum(1)
    right[known] = _with_mean(own / all_ways, 1 - rate)
    return LabelNoise(
        rate=rate,
        error=float(np.sqrt(base * (1 - base) / count)),
        transition=transition,
        right=right,
    )


def _inverse_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """1/τ that minimises the cross-entropy of softmax(logits/τ) (Guo et al. 2017)."""

    def cross_entropy(log_scale: float) -> float:
        scaled = log_softmax(logits * np.exp(log_scale), axis=1)
        return -float(scaled[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-3.0, 3.0), method="bounded").x))


def _with_mean(probability: np.ndarray, mean: float) -> np.ndarray:
    """Probabilities (n,) whose odds have all been multiplied so that their mean is `mean`."""
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    odds = logit(inside)
    return expit(odds + brentq(lambda shift: expit(odds + shift).mean() - mean, -60.0, 60.0))


def _most_confident(probability: np.ndarray, among: np.ndarray) -> np.ndarray:
    """The rows of the highest probability (n,) `among` those marked: a fifth, one at least."""
    rows = np.flatnonzero(among)
    count = int(np.ceil(ANCHORS * len(rows)))
    return rows[np.argsort(-probability[rows], kind="stable")[:count]]


def _transition(true: np.ndarray, given: np.ndarray, classes: int, rate: float) -> np.ndarray:
    """Frequencies of `given` by `true` (m,), toward even noise of `rate`: (classes, classes)."""
    prior = np.full((classes, classes), rate / max(classes - 1, 1))
    np.fill_diagonal(prior, 1 - rate)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (true, given), 1)
    mixed = counts + _PSEUDO * prior
    return mixed / mixed.sum(1, keepdims=True)
