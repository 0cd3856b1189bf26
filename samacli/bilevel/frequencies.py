"""How frequent each class is in the training data, where the clean set was drawn evenly."""

from __future__ import annotations

import torch
from scipy.stats import chi2
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from samacli.bilevel.prior import moments, standardised

_UNLIKELY = 0.05
_FOLDS = 5
_RIDGE = 1e-3  # of the mean log loss
# A given label and the text err together (a labelling rule is mostly a word of the text), so that
# what the text says counts half; and every tenth row is taken to be as in the clean set.
_DEPENDENCE, _PRIOR = 0.5, 0.1
_ITERATIONS = 200


def drawn_evenly(labels: Tensor, classes: int) -> bool:
    """Whether the counts are too even for a random draw, even from classes of one size.

    The lower tail of Pearson's χ² test. labels: (m,).
    """
    counts = torch.bincount(labels, minlength=classes).double()
    expected = counts.sum() / classes
    if expected == 0:
        return False
    statistic = float(((counts - expected).square() / expected).sum())
    return float(chi2.cdf(statistic, classes - 1)) < _UNLIKELY


def class_frequencies(
    features: Tensor,
    given: Tensor,
    clean_features: Tensor,
    clean_labels: Tensor,
    log_likelihood: Tensor,
) -> Tensor | None:
    """Estimated frequencies of the true classes among the rows with a given label, (classes,).

    Expectation maximisation (Saerens, Latinne and Decaestecker 2002, for a classifier that met
    other frequencies): each row's class is as likely as π_c · p(x | c)^½ · P(given | c), where
    p(x | c) comes from a softmax regression on the clean rows, calibrated by its temperature on
    held-out ones. Neither view alone would do: given labels lean to the class that labelling rules
    overuse, and few clean rows make a poor classifier. π is drawn to the clean set's frequencies.

    features: (n, f); given: (n,), −1 for none. clean_features: (m, f); clean_labels: (m,).
    log_likelihood: (given, true), as `label_likelihood` gives it.
    Returns: None where a class has fewer than two clean rows, or no row has a given label.
    """
    classes = log_likelihood.shape[1]
    counts = torch.bincount(clean_labels, minlength=classes)
    fewest = int(counts.min())
    told = given >= 0
    if fewest < 2 or not told.any():
        return None
    scale = moments(features)
    rows, clean = (standardised(x, *scale) for x in (features[told], clean_features))
    regression = LogisticRegression(
        C=1 / (2 * _RIDGE * len(clean)), class_weight="balanced", max_iter=1000
    )
    folds = StratifiedKFold(min(_FOLDS, fewest), shuffle=True, random_state=0)
    calibrated = CalibratedClassifierCV(regression, method="temperature", cv=folds, ensemble=False)
    calibrated.fit(clean.numpy(), clean_labels.numpy())
    text = torch.from_numpy(calibrated.predict_proba(rows.numpy())).clamp_min(1e-12).log()
    likelihood = _DEPENDENCE * text + log_likelihood[given[told]].double()
    start = counts.double() / counts.sum()
    frequencies = start
    for _ in range(_ITERATIONS):
        expected = (likelihood + frequencies.log()).softmax(-1).mean(0)
        frequencies = (expected + _PRIOR * start) / (1 + _PRIOR)
    return frequencies.float()
