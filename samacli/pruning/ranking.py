"""From learned weights and trust in labels to one ranking of the rows."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Order = Literal["highest", "even", "lowest"]
ORDERS: tuple[Order, ...] = get_args(Order)


def rank(weight: np.ndarray, right: np.ndarray, labels: np.ndarray, order: Order) -> np.ndarray:
    """Scores (n,) in [0, 2): higher is kept first.

    Rows whose label is more probably right than wrong come first, from 1 up, by their place in
    `order`; the others follow by that probability. Among the trusted

    - highest: by w·P(right), the weight to be expected of a row that may be worth nothing. Weights
      learnt from the training data themselves rise with the loss: the hardest first (the paper's).
    - lowest: by P(right)/w, the easiest first. It is what little data can still be learnt from
      (Sorscher et al. 2022).
    - even: in each class at even distances over w·P(right), so that any number of them has hard and
      easy ones in their proportions (coverage: Zheng et al. 2023).

    weight: (n,), above 0. right: probability that the given label is right (n,); nan: no label.
    labels: (n,) given.
    """
    right = np.nan_to_num(right, nan=0.0)
    trusted = np.flatnonzero(right > 0.5)
    scores = np.minimum(right, 0.5)
    key = weight[trusted] * right[trusted]
    if order == "lowest":
        key = right[trusted] / np.maximum(weight[trusted], np.finfo(float).tiny)
    elif order == "even":
        key = np.zeros(len(trusted))
        for label in np.unique(labels[trusted]):
            own = np.flatnonzero(labels[trusted] == label)
            by_usefulness = own[np.argsort(-(weight * right)[trusted][own], kind="stable")]
            key[by_usefulness] = 1 - _van_der_corput(len(own))
    places = np.empty(len(trusted))
    places[np.argsort(key, kind="stable")] = np.arange(len(trusted))
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
