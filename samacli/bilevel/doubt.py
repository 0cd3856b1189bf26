"""Whether beliefs are worth anything, by clean rows that their model has not seen."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from samacli.errors import counted

_CLEAR = 2.0  # standard errors
_LEAST, _OF_EACH = 10, 3  # clean rows with given labels, and of these wrong and right ones


def doubt_about(
    believed: np.ndarray, true: np.ndarray, raw: np.ndarray, wrong: np.ndarray
) -> str | None:
    """Why nothing is known of which labels are wrong; None where something is.

    believed: (m, classes), each row's sum 1, of clean rows before their given label is looked at;
    true: (m,). raw: scores for a wrong label of those that carry one (k,); wrong: bool (k,).
    """
    if not better_than_frequencies(believed, true):
        return (
            f"on {counted(len(true), 'clean row')} that it was not trained on the model is no "
            "better than "
            "the frequencies of the classes, so it has learnt nothing that could tell"
        )
    if len(wrong) >= _LEAST and min(wrong.sum(), (~wrong).sum()) >= _OF_EACH:
        auroc = float(roc_auc_score(wrong, raw))
        if auroc <= 0.5:
            return (
                f"among {len(wrong):,} clean rows that carry given labels it ranks the wrong ones "
                f"no higher than the right ones (AUROC {auroc:.2f})"
            )
    return None


def better_than_frequencies(believed: np.ndarray, true: np.ndarray) -> bool:
    """Whether probabilities (m, classes) agree with the true labels (m,) better than frequencies
    do, or make them likelier, by two standard errors.

    Agreement is held against what guesses as frequent as its own would reach; likelihood against
    each row's class frequency among all rows, one of each class added.
    """
    rows, classes = believed.shape
    guess = believed.argmax(1)
    counts = np.bincount(true, minlength=classes)
    chance = float(np.bincount(guess, minlength=classes) / rows @ (counts / rows))
    agree = float((guess == true).mean())
    # Half a row more of either kind: none that differs among few does not say that none does.
    smooth = (agree * rows + 0.5) / (rows + 1)
    if agree - chance > _CLEAR * np.sqrt(smooth * (1 - smooth) / rows):
        return True
    frequency = (counts + 1) / (rows + classes)
    gain = np.log(np.clip(believed[np.arange(rows), true], 1e-6, 1)) - np.log(frequency[true])
    return bool(rows > 2 and gain.mean() > _CLEAR * gain.std(ddof=1) / np.sqrt(rows))
