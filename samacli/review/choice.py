"""Which rows a person should label: those whose label would tell most about all the others.

Greedy transductive experimental design (Yu, Bi & Tresp, ICML 2006): the expected reduction of
variance (Cohn, Ghahramani & Jordan, JAIR 1996) of a linear model on the rows' features. Ridge
regression that knows the labels of some rows has at row j the variance f_jᵀ A f_j, with
A = (I + Σ f fᵀ)⁻¹ over the known rows, whatever their labels are. To know row i too lowers the sum
over all rows by

    f_iᵀ A S A f_i / (1 + f_iᵀ A f_i),    S = Σ_j f_j f_jᵀ.

The row with the largest is asked about, counts as known, and the next is chosen. So a row is asked
about for all that are like it, where little is known yet, and hardly ever a second one of a kind.
What the model believes plays no part: rules that go by it were tried, and none was better
(docs/label.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Length of a row's features: a known row leaves a copy of itself 1/26 of the variance it had.
_LENGTH = 5.0
_TINY = 1e-6


@dataclass(frozen=True)
class Choice:
    """Rows to ask about (k), in the order in which they should be.

    rows: int64 (k,), of the n rows chosen from. like: int64 (k,), how many of the n are nearer to
    each, itself among them, than to any other of these and of the known rows.
    """

    rows: np.ndarray
    like: np.ndarray


def choose(features: np.ndarray, known: np.ndarray, budget: int) -> Choice:
    """`budget` of n rows, at most n. Deterministic.

    features: (n, f), what a model makes of the rows. known: (m, f), of rows whose label is known,
    m = 0 for none.
    """
    rows, others = _directions(features, known)
    spread = rows.T @ rows
    covariance = np.linalg.inv(np.eye(rows.shape[1]) + others.T @ others)
    moved = rows @ covariance
    variance = np.einsum("ij,ij->i", moved, rows)
    gain = np.einsum("ij,ij->i", moved @ spread, moved)
    left = np.ones(len(rows), dtype=bool)
    asked: list[int] = []
    for _ in range(budget):
        best = int(np.argmax(np.where(left, gain / (1 + variance), -np.inf)))
        asked.append(best)
        left[best] = False
        # A loses a·aᵀ; the two numbers of each candidate follow in O(f).
        a = covariance @ rows[best]
        a /= np.sqrt(1 + rows[best] @ a)
        along = rows @ a
        towards = spread @ a
        gain += along * (along * (a @ towards) - 2 * (rows @ (covariance @ towards)))
        variance -= along**2
        covariance -= np.outer(a, a)
    nearest = np.argmax(rows @ np.concatenate([rows[asked], others]).T, axis=1)
    nearest[asked] = np.arange(budget)
    return Choice(np.array(asked), np.bincount(nearest, minlength=budget)[:budget])


def _directions(features: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both, float64, with each column as standardised as it is over the rows, and each row of
    length `_LENGTH`, or 0 where it was."""
    mean = features.mean(0, dtype=np.float64)
    deviation = np.maximum(features.std(0, dtype=np.float64), _TINY)

    def scaled(table: np.ndarray) -> np.ndarray:
        table = (table.astype(np.float64) - mean) / deviation
        lengths = np.linalg.norm(table, axis=1, keepdims=True)
        return np.asarray(_LENGTH * table / np.maximum(lengths, _TINY))

    return scaled(features), scaled(known.reshape(-1, features.shape[1]))
