"""From learned weights and trust in labels to one ranking of the rows."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy.stats import spearmanr

from samacli.pruning.label_noise import TRUSTED

ABUNDANT = 0.5  # of the trusted rows, learnt at once

Order = Literal["highest", "even", "lowest"]
ORDERS: tuple[Order, ...] = get_args(Order)


def rank(weight: np.ndarray, right: np.ndarray, labels: np.ndarray, order: Order) -> np.ndarray:
    """Scores (n,) in [0, 2): higher is kept first.

    Rows whose label is trusted come first, from 1 up, by their place in `order`; the others follow
    by the probability that it is right. Among the trusted

    - highest: by weight. Learnt from the training data themselves weights rise with the loss, so
      these are the hardest (the paper's way). They differ by a few per cent where the reweighter
      learns gently, so only their ranks are used; multiplied by P(right) they would say nothing.
    - lowest: the other way round: the easiest, which is what little data can still be learnt from
      (Sorscher et al. 2022).
    - even: in each class at even distances over the weights, so that any number of rows has hard
      and easy ones in their proportions (coverage: Zheng et al. 2023).

    Of equal weights the surer label comes first.

    weight: (n,). right: probability that the given label is right (n,); nan: no label.
    labels: (n,) given.
    """
    trusted = np.flatnonzero(_known(right) > TRUSTED)
    places = _places(weight[trusted], right[trusted], labels[trusted], order)
    return _scores(right, trusted, places)


def rank_without_redundant(
    weight: np.ndarray,
    loss: np.ndarray,
    right: np.ndarray,
    learnt: np.ndarray,
    labels: np.ndarray,
) -> np.ndarray:
    """Scores (n,) as `rank` gives them, for an order that the run itself suggests.

    Where the model learnt most of the trusted rows at once, data are abundant: first those that it
    did not, evenly over the weights; then those that it did, the hardest first, since they are
    redundant. Where it learnt fewer, even the easy rows are still needed: all of them evenly over
    the weights. Which of both is better depends on just that (Sorscher et al. 2022: keep the hard
    ones of much, the easy ones of little). The others come last by the probability that they are
    right.

    Harder is what weighs more, where weights rise with the loss, and what weighs less, where they
    fall (learnt from a clean set).

    loss: (n,), nan without a label. learnt: bool (n,), learnt early and not forgotten since.
    The rest: see `rank`.
    """
    trusted = np.flatnonzero(_known(right) > TRUSTED)
    hardness = weight[trusted]
    if len(trusted) > 1 and np.ptp(hardness) > 0 and np.ptp(loss[trusted]) > 0:
        hardness = hardness * (1 if spearmanr(hardness, loss[trusted]).statistic >= 0 else -1)
    redundant = learnt[trusted]
    if redundant.sum() < ABUNDANT * len(redundant):
        redundant = np.zeros_like(redundant)
    places = np.empty(len(trusted))
    for part, start, order in (
        (redundant, 0, "highest"),
        (~redundant, redundant.sum(), "even"),
    ):
        rows = trusted[part]
        found = _places(hardness[part], right[rows], labels[rows], order)
        places[part] = start + found
    return _scores(right, trusted, places)


def _known(right: np.ndarray) -> np.ndarray:
    return np.nan_to_num(right, nan=0.0)


def _scores(right: np.ndarray, trusted: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The trusted rows' places (m,), 0 the last, from 1 up; below them P(right)."""
    scores = np.minimum(_known(right), TRUSTED)
    scores[trusted] = 1 + places / max(len(trusted), 1)
    return scores


def _places(key: np.ndarray, right: np.ndarray, labels: np.ndarray, order: str) -> np.ndarray:
    """0 for the last to be kept to m − 1 for the first, by `key` (m,) in `order`."""
    rows = len(key)
    places = np.empty(rows)
    places[np.lexsort((right, -key if order == "lowest" else key))] = np.arange(rows)
    if order == "even":
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            places[own[np.argsort(-places[own])]] = 1 - _van_der_corput(len(own))
        places[np.argsort(places, kind="stable")] = np.arange(rows)
    return places


def _van_der_corput(count: int) -> np.ndarray:
    """The first `count` numbers of the base-2 sequence: i's binary digits mirrored at the point.

    Rows numbered in any order whose number is below a bound are evenly spaced in that order.
    """
    numbers, values, digit = np.arange(count), np.zeros(count), 0.5
    while numbers.any():
        values += digit * (numbers & 1)
        numbers >>= 1
        digit /= 2
    return values
