"""Wrong labels, as pruning takes them: about how many there are, and which.

How many is asked of models that were not trained on the labels, which is told by the losses that
rows have during training. Both serve to choose rows; `noise_rate` says what is known of the rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit, softmax
from scipy.stats import norm
from sklearn.mixture import GaussianMixture

ANCHORS = 0.2  # of the rows predicted as a class, the surest
_CLEAR = 2.0  # standard errors
_RATES = np.arange(0, 1, 0.01)
_BINS = 200  # of log-odds: finer than a smooth curve needs
_FINE = {"xatol": 1e-3, "fatol": 1e-3}

# A label is trusted if it is right with more than this probability: one wrong label among the kept
# costs as much as four right ones give. Hard-first ordering gathers whatever is wrong at its front.
TRUSTED = 0.8
_FITTED_ON = 100_000  # rows; two means and two variances need no more
_FEWEST = 10  # rows that say anything of two components
_TAIL = 0.02  # at either end, of the losses
_LEAST = 1e-4  # share of a component
_NEARLY = 0.1  # of a class, trusted: it has nearly vanished
_LOWEST = 0.1  # of the losses of a class
# Rows that the pooled share of wrong labels counts for in each class, and rounds of its fit.
_PRIOR, _SHARE_ROUNDS = 50, 30
_ROUNDS, _STILL = 300, 1e-4  # of its fit; means that move less have converged


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
    """Bounds that pruning takes the fraction of wrong labels to be between, by a standard error.

    No confidence interval: a model's agreement shows neither wrong labels that can be learnt nor
    those within its own mistakes.

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
    clean rows are the same for all models, so that each counts once, shared among them. The
    result is the interval of profile likelihood, in steps of 0.01: wide where the model is never
    sure, or as sure of all, since mistakes and wrong labels are hard to tell apart then.
    """
    total = np.zeros(len(_RATES))
    for one in asked:
        total += _profile(one, 1 / len(asked))
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


def _profile(asked: Asked, clean_counts: float) -> np.ndarray:
    """Negative log-likelihoods, one for each of `_RATES`, the least over a and b.

    clean_counts: how many rows each clean row counts for.
    """
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
        if clean is not None:
            value += clean_counts * clean.loss(expit(shift + slope * clean.z))
        return value

    def least(rate: float, start: Sequence[float]) -> float:
        found = minimize(loss, start, args=(rate,), method="Nelder-Mead", options=_FINE)
        return float(found.fun)

    # Two starts, a gentle and a steep curve: there may be a minimum for each.
    return np.array([min(least(rate, [0.0, 0.0]), least(rate, [1.0, 0.5])) for rate in _RATES])


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


@dataclass(frozen=True)
class LabelNoise:
    """What is taken of n given labels.

    rate: estimated fraction of wrong labels. right: (n,), probability that the given label is
    right; nan for rows without one. labels: (n,) given, −1 for none, where they were looked at
    class by class.
    """

    rate: float
    right: np.ndarray
    labels: np.ndarray | None = None

    @property
    def trusted(self) -> np.ndarray:
        """bool (n,): rows whose label is right with a probability above `TRUSTED`.

        Of a class with fewer such rows than a tenth, or than `_FEWEST`, its surest make them up: a
        class of which nothing is trusted would vanish from what is learnt from.
        """
        trusted: np.ndarray = np.nan_to_num(self.right, nan=0.0) > TRUSTED
        for rows in self._by_class():
            least = min(len(rows), max(_FEWEST, math.ceil(_NEARLY * len(rows))))
            if trusted[rows].sum() < least:
                trusted[rows[np.argsort(-self.right[rows], kind="stable")[:least]]] = True
        return trusted

    @property
    def doubted_classes(self) -> list[int]:
        """Classes of whose labels a tenth or less is trusted on its own account, of some rows."""
        sure = np.nan_to_num(self.right, nan=0.0) > TRUSTED
        rows_of = [rows for rows in self._by_class() if sure[rows].mean() <= _NEARLY]
        assert self.labels is not None or not rows_of
        return [int(self.labels[rows[0]]) for rows in rows_of]  # type: ignore[index]

    def _by_class(self) -> list[np.ndarray]:
        """The rows with a probability, class by class; none where classes are not known."""
        if self.labels is None:
            return []
        known = np.isfinite(self.right)
        of_class = [
            np.flatnonzero(known & (self.labels == k))
            for k in np.unique(self.labels[self.labels >= 0])
        ]
        return [rows for rows in of_class if len(rows)]


def estimate_label_noise(
    losses: np.ndarray, between: tuple[float, float], labels: np.ndarray | None = None
) -> LabelNoise:
    """Each label's probability of being right, from the losses that rows had during training.

    These have two populations, right labels with the smaller ones and wrong labels with the larger;
    a mixture of two Gaussians tells them apart (Arazo et al. 2019; Li et al. 2020, "DivideMix").
    The probability is the posterior of the component with the smaller mean, made monotone: of two
    Gaussians the wider one has both tails, and the smallest losses would count as wrong.

    The mixture finds two populations also where there is one: the larger losses may be right labels
    of what is hard to learn. Or it takes a long tail for one: it is fitted to values of which the
    outer fiftieths are moved inwards. And where its share of wrong labels is not between the
    bounds, it is fitted again with the nearer bound for that share.

    All classes share the mixture, but one may be harder than another (a rare one is learnt late),
    or have more of its labels wrong. So losses are counted from a level of their class
    (`_levels`), and each class has a share of wrong labels of its own; both are drawn to those of
    all rows the more, the fewer rows there are.

    Args:
        losses: (n,), over the run (`samacli.pruning.scores.MeanLoss`); nan for none.
        between: bounds of the fraction of wrong labels, from elsewhere (`rate_of_wrong_labels`).
        labels: (n,) given, −1 for none; None: all rows are of one class.
    """
    low, high = between
    right = np.full(len(losses), np.nan)
    known = np.flatnonzero(np.isfinite(losses))
    spread = float(np.ptp(losses[known])) if known.size else 0.0
    if known.size < _FEWEST or spread == 0:
        right[known] = 1 - high
        return LabelNoise(high, right, labels)
    values = (losses[known] - losses[known].mean()) / losses[known].std()
    if labels is None:
        falling = _falling(values, _posterior(values, low, high))
    else:
        classes = labels[known]
        values = values - _levels(values, classes)
        falling = _by_class(values, _posterior(values, low, high), classes)
    rate = float(np.clip(1 - falling.mean(), min(low, high), high))
    right[known] = _with_mean(falling, 1 - rate)
    return LabelNoise(rate, right, labels)


def _levels(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """By how much the losses of each row's class lie above those of all (n,).

    By their tenth percentiles, which right labels make up even where most labels are wrong, and
    drawn to 0 as far as they scatter by chance (empirical Bayes: Efron and Morris 1975).
    """
    names, place, rows = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        return np.zeros_like(values)
    lows = [float(np.quantile(values[place == k], _LOWEST)) for k in range(len(names))]
    above = np.array(lows) - float(np.quantile(values, _LOWEST))
    # Of a Gaussian's tenth percentile: q(1 − q) / (n φ²), a little less than 3 σ² / n.
    chance = 3 * values.var() / rows
    between = max(0.0, float(np.mean(above**2 - chance)))
    shrunk: np.ndarray = above * between / (between + chance)
    return shrunk[place]


def _by_class(values: np.ndarray, posterior: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """P(right | value, class) (n,): each class with its own share of wrong labels.

    By expectation maximisation under a beta prior that is worth `_PRIOR` rows of the pooled share.
    """
    odds = logit(np.clip(posterior, 1e-9, 1 - 1e-9))
    pooled = float(np.clip(1 - posterior.mean(), _LEAST, 1 - _LEAST))
    found = np.empty_like(posterior)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        share = pooled
        for _ in range(_SHARE_ROUNDS):
            own = expit(odds[rows] + logit(pooled) - logit(share))
            share = (_PRIOR * pooled + float((1 - own).sum())) / (_PRIOR + len(rows))
        found[rows] = _falling(values[rows], own)
    return found


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
    odds = logit(np.clip(probability, 1e-12, 1 - 1e-12))
    wanted = min(max(mean, 1e-9), 1 - 1e-9)
    return expit(odds + brentq(lambda shift: expit(odds + shift).mean() - wanted, -80.0, 80.0))
