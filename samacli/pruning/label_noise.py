"""How many given labels are wrong, and which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.mixture import GaussianMixture

# A label is trusted if it is right with more than this probability: one wrong label among the kept
# costs as much as four right ones give. Hard-first ordering gathers whatever is wrong at its front.
TRUSTED = 0.8
ANCHORS = 0.2  # of the rows predicted as a class, the most confident, tell how many are mislabelled
_FITTED_ON = 100_000  # rows; two means and two variances need no more
_FEWEST = 10  # rows that say anything of two components


@dataclass(frozen=True)
class LabelNoise:
    """What is known of n given labels.

    rate: estimated fraction of wrong labels, an upper bound. right: (n,), probability that the
    given label is right; nan for rows without one.
    """

    rate: float
    right: np.ndarray

    @property
    def trusted(self) -> np.ndarray:
        """bool (n,): rows whose label is right with a probability above `TRUSTED`."""
        return np.nan_to_num(self.right, nan=0.0) > TRUSTED


def noise_rate(
    probabilities: np.ndarray,
    labels: np.ndarray,
    clean_probabilities: np.ndarray | None = None,
    clean_labels: np.ndarray | None = None,
) -> tuple[float, float]:
    """Estimated fraction of wrong given labels, from a model that was not trained on these rows.

    Returns it with its standard error; 1 where the model agrees with the labels no better than by
    chance (by two standard errors), and so tells nothing of them.

    Where it is most confident of a class the class is nearly certain ("anchor points": Liu and Tao
    2016; Patrini et al. 2017): a label given there that is another one is wrong, or else the model
    is mistaken. So the disagreement among the anchors, a fifth of the rows predicted as each class,
    is an upper bound: near the rate where the model knows the task, far above where it does not.

    Clean rows tell how often it is mistaken. With the share e of errors among those of at least the
    anchors' confidence, labels agree with the model at a rate of

        (1 − ρ)(1 − e) + ρ e / (c − 1),

    both right or both wrong the same way (wrong labels of all c − 1 other classes alike), which
    gives the rate ρ itself.

    Args:
        probabilities: (n, c). labels: (n,) given.
        clean_probabilities: (m, c), of a model that was not trained on these either.
        clean_labels: (m,), true.
    """
    classes = probabilities.shape[1]
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    chosen, least = _anchors(predicted, confidence, classes)
    disagree = float(np.mean(predicted[chosen] != labels[chosen]))
    # Half an anchor more of either kind: none found wrong among few does not say that none is.
    smooth = (disagree * len(chosen) + 0.5) / (len(chosen) + 1)
    error = float(np.sqrt(smooth * (1 - smooth) / len(chosen)))
    guessed = np.bincount(predicted[chosen], minlength=classes) / len(chosen)
    given = np.bincount(labels, minlength=classes) / len(labels)
    if 1 - disagree < guessed @ given + 2 * error:
        return 1.0, error
    if clean_probabilities is None or clean_labels is None:
        return disagree, error
    asked = clean_probabilities.argmax(1)
    as_sure = clean_probabilities.max(1) >= least[asked]
    if not as_sure.any():
        return disagree, error
    mistaken = float(np.mean((asked != clean_labels)[as_sure]))
    by_chance = mistaken / max(classes - 1, 1)
    if 1 - mistaken <= by_chance:
        return disagree, error  # it knows nothing of the task
    scale = 1 - mistaken - by_chance
    mend = float(np.sqrt(mistaken * (1 - mistaken) / as_sure.sum()))
    return min(max((disagree - mistaken) / scale, 0.0), 1.0), float(np.hypot(error, mend)) / scale


def estimate_label_noise(losses: np.ndarray, at_most: float) -> LabelNoise:
    """Each label's probability of being right, from the losses that rows had during training.

    These have two populations, right labels with the smaller ones and wrong labels with the larger;
    a mixture of two Gaussians tells them apart (Arazo et al. 2019; Li et al. 2020, "DivideMix").
    The probability is the posterior of the component with the smaller mean, made monotone: of two
    Gaussians the wider one has both tails, and the smallest losses would count as wrong.

    The mixture finds two populations also where there is one: the larger losses may be right labels
    of what is hard to learn. So where it has more wrong labels than there are at most, its odds are
    multiplied by the one factor that makes their fraction that (a change of prior, Saerens et al.
    2002).

    Args:
        losses: (n,), over the run (`samacli.pruning.in_run.MeanLoss`); nan for none.
        at_most: of the labels are wrong, a fraction known from elsewhere (`noise_rate`).
    """
    right = np.full(len(losses), np.nan)
    known = np.flatnonzero(np.isfinite(losses))
    spread = float(np.ptp(losses[known])) if known.size else 0.0
    if known.size < _FEWEST or spread == 0:
        right[known] = 1 - at_most
        return LabelNoise(at_most, right)
    values = ((losses[known] - losses[known].mean()) / losses[known].std())[:, None]
    sample = values
    if len(values) > _FITTED_ON:
        sample = np.random.default_rng(0).choice(values, _FITTED_ON, replace=False)
    mixture = GaussianMixture(2, random_state=0).fit(sample)
    posterior = mixture.predict_proba(values)[:, mixture.means_[:, 0].argmin()]
    falling = _falling(values[:, 0], posterior)
    rate = min(at_most, float(1 - falling.mean()))
    right[known] = _with_mean(falling, 1 - rate)
    return LabelNoise(rate, right)


def _anchors(
    predicted: np.ndarray, confidence: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of the rows predicted as each class the surest fifth; and the least confidence of these
    (classes,), inf where there are none."""
    least = np.full(classes, np.inf)
    chosen: list[np.ndarray] = []
    for k in np.unique(predicted):
        rows = np.flatnonzero(predicted == k)
        count = int(np.ceil(ANCHORS * len(rows)))
        chosen.append(rows[np.argsort(-confidence[rows], kind="stable")[:count]])
        least[k] = confidence[chosen[-1][-1]]
    return np.concatenate(chosen), least


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
