"""From learned weights and trust in labels to one ranking of the rows."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from samacli.pruning.label_noise import TRUSTED

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
    right = np.nan_to_num(right, nan=0.0)
    trusted = np.flatnonzero(right > TRUSTED)
    scores = np.minimum(right, TRUSTED)
    key = -weight[trusted] if order == "lowest" else weight[trusted]
    places = np.empty(len(trusted))
    places[np.lexsort((right[trusted], key))] = np.arange(len(trusted))
    if order == "even":
        for label in np.unique(labels[trusted]):
            own = np.flatnonzero(labels[trusted] == label)
            places[own[np.argsort(-places[own])]] = 1 - _van_der_corput(len(own))
        places[np.argsort(places, kind="stable")] = np.arange(len(trusted))
    scores[trusted] = 1 + places / max(len(trusted), 1)
    return scores


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
