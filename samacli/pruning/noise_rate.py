"""How many given labels are wrong, by models that were not trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

ANCHORS = 0.2  # of the rows predicted as a class, the surest
_CLEAR = 2.0  # standard errors
_RATES = np.arange(0, 1, 0.01)
_BINS = 200  # of log-odds: finer than a smooth curve needs
_FINE = {"xatol": 1e-3, "fatol": 1e-3}


@dataclass(frozen=True)
class Asked:
    """What a model says of rows that it was not trained on.

    probabilities: (n, c), each row's sum 1. labels: (n,) given.
    clean_probabilities, clean_labels: (m, c) and (m,), of rows whose labels are right; m may be 0.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    clean_probabilities: np.ndarray | None = None
    clean_labels: np.ndarray | None = None


def rate_of_wrong_labels(asked: Sequence[Asked]) -> tuple[float, float]:
    """Between which bounds the fraction of wrong labels lies, by one standard error.

    Those of `rate_of_lapses`, the upper one no higher than by `surest_disagree`, the mean over the
    models. Both are 0 where that is not above 0 by two standard errors: without evidence no label
    is taken for wrong, since what looks most like it is what a model needs most. They are 0 and 1
    where a model agrees with the labels by chance only.

    asked: one or more models, of the same labels.
    """
    rates, errors = np.array([surest_disagree(one.probabilities, one.labels) for one in asked]).T
    if (rates == 1).any():
        return 0.0, 1.0
    rate, error = rates.mean(), np.sqrt(np.mean(errors**2) / len(errors))
    if rate <= _CLEAR * error:
        return 0.0, 0.0
    low, high = rate_of_lapses(asked)
    high = min(high, float(rate + error))
    return min(low, high), high


def surest_disagree(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """How often labels are not what a model, not trained on these rows, is surest of.

    Returns it with its standard error; 1 where the model agrees with the labels no better than by
    chance (by two standard errors), and so tells nothing of them.

    Where it is most confident of a class the class is nearly certain ("anchor points": Liu and Tao
    2016; Patrini et al. 2017): a label given there that is another one is wrong, or else the model
    is mistaken. So the disagreement among the anchors, a fifth of the rows predicted as each class,
    is an upper bound: near the rate where the model knows the task, far above where it does not.

    Args:
        probabilities: (n, c). labels: (n,) given.
    """
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(1)
    chosen = _anchors(predicted, probabilities.max(1))
    disagree = float(np.mean(predicted[chosen] != labels[chosen]))
    # Half an anchor more of either kind: none found wrong among few does not say that none is.
    smooth = (disagree * len(chosen) + 0.5) / (len(chosen) + 1)
    error = float(np.sqrt(smooth * (1 - smooth) / len(chosen)))
    guessed = np.bincount(predicted[chosen], minlength=classes) / len(chosen)
    given = np.bincount(labels, minlength=classes) / len(labels)
    if 1 - disagree < guessed @ given + _CLEAR * error:
        return 1.0, error
    return disagree, error


def rate_of_lapses(asked: Sequence[Asked]) -> tuple[float, float]:
    """The rates of wrong labels that the models' answers admit, within one standard error.

    A model is mistaken the less the surer it is, but however sure, a wrong label disagrees with it.
    Such an agreement that levels off below 1 is that of an observer who at times presses the wrong
    key: a psychometric function with a lapse rate (Wichmann and Hill 2001). With z the log-odds of
    the predicted class, the model is right at a rate of (Platt 1999)

        r(z) = σ(a + b z),  b > 0,

    and labels, of which a fraction ρ is wrong, agree with it at a rate of

        (1 − ρ) r(z) + ρ (1 − r(z)) / (c − 1),

    both right or both wrong the same way (wrong labels of all c − 1 other classes alike). Labels of
    clean rows agree at r(z): they pin it down. a and b are each model's, ρ is that of all. The
    result is the interval of profile likelihood, in steps of 0.01: wide where the model is never
    sure, or as sure of all, since mistakes and wrong labels are hard to tell apart then.
    """
    total = np.zeros(len(_RATES))
    for one in asked:
        total += _profile(one)
    admitted = _RATES[total <= total.min() + 0.5]
    return float(admitted.min()), float(admitted.max())


def _anchors(predicted: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Of the rows predicted as each class the surest fifth."""
    chosen: list[np.ndarray] = []
    for k in np.unique(predicted):
        rows = np.flatnonzero(predicted == k)
        count = int(np.ceil(ANCHORS * len(rows)))
        chosen.append(rows[np.argsort(-confidence[rows], kind="stable")[:count]])
    return np.concatenate(chosen)


def _profile(asked: Asked) -> np.ndarray:
    """Negative log-likelihoods, one for each of `_RATES`, the least over a and b."""
    classes = asked.probabilities.shape[1]
    sure = _log_odds(asked.probabilities)
    centre, scale = sure.mean(), sure.std() or 1.0
    noisy = _Binned.of((sure - centre) / scale, asked.probabilities.argmax(1) == asked.labels)
    clean = None
    if asked.clean_probabilities is not None and len(asked.clean_probabilities):
        z = (_log_odds(asked.clean_probabilities) - centre) / scale
        clean = _Binned.of(z, asked.clean_probabilities.argmax(1) == asked.clean_labels)

    def loss(curve: np.ndarray, rate: float) -> float:
        shift, slope = curve[0], np.exp(curve[1])
        right = expit(shift + slope * noisy.z)
        value = noisy.loss((1 - rate) * right + rate * (1 - right) / max(classes - 1, 1))
        return value if clean is None else value + clean.loss(expit(shift + slope * clean.z))

    # Two starts, a gentle and a steep curve: there may be a minimum for each.
    return np.array(
        [
            min(
                minimize(loss, start, args=(rate,), method="Nelder-Mead", options=_FINE).fun
                for start in ([0.0, 0.0], [1.0, 0.5])
            )
            for rate in _RATES
        ]
    )


@dataclass(frozen=True)
class _Binned:
    """Rows of about the same log-odds counted together: z (k,), agreeing (k,) of rows (k,)."""

    z: np.ndarray
    agreeing: np.ndarray
    rows: np.ndarray

    @staticmethod
    def of(z: np.ndarray, agree: np.ndarray) -> _Binned:
        order = np.argsort(z, kind="stable")
        parts = np.array_split(order, min(_BINS, len(order)))
        return _Binned(
            np.array([z[part].mean() for part in parts]),
            np.array([agree[part].sum() for part in parts]),
            np.array([len(part) for part in parts]),
        )

    def loss(self, rate: np.ndarray) -> float:
        """Negative log-likelihood of agreement at these rates (k,)."""
        rate = np.clip(rate, 1e-9, 1 - 1e-9)
        return -float(self.agreeing @ np.log(rate) + (self.rows - self.agreeing) @ np.log1p(-rate))


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Of the predicted class (n,), no surer than float32 probabilities tell."""
    return logit(np.clip(probabilities.max(1).astype(float), 1e-6, 1 - 1e-6))
