"""How many labels are wrong: an interval that keeps its level, or that it isn't known.

Only rows whose truth is known can bound it. Wrong labels that a model can learn (a rule's, say) are
repeated by a model that was trained on them, so that agreement between model and labels is no
evidence of right ones, however many rows it is counted on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from samacli.errors import counted
from samacli.pruning.label_noise import Asked, surest_disagree
from samacli.training.reliability import exact_interval

if TYPE_CHECKING:
    from samacli.data import Splits

LEVEL = 0.9
_TELLING = 0.8  # an interval that is wider says nothing
_UNLIKELY = 0.05
_DRAWS = 999  # of a Monte Carlo test
_RESAMPLED = 100
_ITERATIONS = 300
_FEW = 100  # rows held out
_OF_EACH = 5  # clean rows of each class, where classes must be weighed

Source = Literal["given labels of clean rows", "a model asked about clean rows", "none"]
_CARRY = "that carry the label they were given"
_CLEAN_WOULD_TELL = (
    "clean rows that carry the label they were given too would tell (data.columns.true_label)"
)


@dataclass(frozen=True)
class NoiseRate:
    """The fraction of wrong labels among the training rows, as far as it is known.

    low, high: an interval that holds it with probability `level` or more over draws of the rows
    that it was made from; None where it is not known, and `why` says why not.
    rows: whose truth is known.
    """

    low: float | None
    high: float | None
    level: float
    source: Source
    rows: int
    why: str | None = None

    @property
    def sentence(self) -> str:
        if self.low is None or self.high is None:
            return f"how many labels are wrong is not known: {self.why}"
        between = f"between {_percent(self.low)} and {_percent(self.high)} of the labels are wrong"
        how = "that carries the label it was given" if self.rows == 1 else _CARRY
        if self.source == "a model asked about clean rows":
            how = "and a model's mistakes on them"
        rows = counted(self.rows, "clean row")
        return f"{between} ({self.level:.0%} interval, from {rows} {how})"

    def narrow(self, low: float, high: float) -> tuple[float, float]:
        """Bounds from elsewhere, moved into the interval where it is known."""
        if self.low is None or self.high is None:
            return low, high
        inside = np.clip([low, high], self.low, self.high)
        return float(inside[0]), float(inside[1])


def rate_from_given(
    given: np.ndarray, clean_given: np.ndarray, clean: np.ndarray, level: float = LEVEL
) -> NoiseRate | None:
    """From clean rows that carry the label they were given; None where none does.

    They are taken for a random draw of the training rows or, where the labels that they carry are
    too unlike those of the training rows for that, for one within each true class.

    given: (n,) of the training rows, −1 for none. clean_given, clean: (m,), −1 for none.
    """
    known = clean_given >= 0
    if not known.any():
        return None
    classes = int(max(given.max(initial=0), clean.max(), clean_given.max())) + 1
    shares = np.bincount(given[given >= 0], minlength=classes).astype(float)
    found = mistakes(clean[known], clean_given[known], shares)
    # The rate of these training rows is itself a draw about that of all rows there could be.
    rows = found.rows * shares.sum() / (found.rows + shares.sum())
    low, high = exact_interval(found.rate, rows, level)
    if found.resampled is not None:
        # Where classes err unlike, the bias that was taken off is uncertain, too, and lies on one
        # side: the interval holds what the resampled say as they are.
        tail = (1 - level) / 2
        lowest, highest = np.quantile(found.resampled, [tail, 1 - tail])
        low, high = min(low, float(lowest)), max(high, float(highest))
    return NoiseRate(low, high, level, "given labels of clean rows", int(known.sum()))


def known_noise_rate(splits: Splits) -> NoiseRate | None:
    """By `rate_from_given`, where the clean set says what its rows were labelled with; not known
    where too few of them do."""
    given = given_of_clean(splits)
    if splits.meta is None or not len(given):
        return None
    found = rate_from_given(splits.train.labels, given, splits.meta.labels)
    if found is None or found.low is None or found.high is None:
        return found
    if found.high - found.low <= _TELLING:
        return found
    few = ("clean row carries the label it was given", "clean rows carry the label they were given")
    why = f"only {counted(found.rows, *few)}, too few to tell"
    return NoiseRate(None, None, found.level, "none", found.rows, why)


def given_of_clean(splits: Splits) -> np.ndarray:
    """What each clean row was labelled with (m,), −1 where nothing tells; see `told_of_clean`."""
    if splits.meta is None:
        return np.empty(0, np.int64)
    told, rows = splits.told_of_clean
    given = np.full(len(splits.meta), -1)
    given[rows] = told
    return given


def rate_through_models(asked: Sequence[Asked], level: float = LEVEL) -> NoiseRate:
    """From models that were not trained on the rows they are asked about.

    Disagreement is a distance: P(given ≠ true) is at least the difference of P(model ≠ given) and
    P(model ≠ true), and at most their sum, whatever the model has learnt and wherever it is
    mistaken. The first is counted on rows that were held out, the second on clean rows, each with
    half of the error that the level leaves. Wide where the model is often mistaken, and on the safe
    side: it holds the rate more often than `level` says.

    asked: one or more models, whose rows may overlap.
    """
    rows = min(len(one.labels) for one in asked)
    clean = [one for one in asked if one.clean_labels is not None and len(one.clean_labels)]
    if not clean:
        return NoiseRate(None, None, level, "none", 0, _why_unknown(asked, rows))
    count = len(clean[0].clean_labels)  # type: ignore[arg-type]
    inner = (1 + level) / 2
    against_given = [np.mean(one.probabilities.argmax(1) != one.labels) for one in asked]
    given_low, given_high = exact_interval(float(np.mean(against_given)), rows, inner)
    found = []
    for one in clean:
        assert one.clean_probabilities is not None
        assert one.clean_labels is not None
        predicted = one.probabilities.argmax(1)
        shares = np.bincount(predicted, minlength=one.probabilities.shape[1]).astype(float)
        said = one.clean_probabilities.argmax(1)
        of_each = count / len(np.unique(one.clean_labels))
        if of_each < _OF_EACH and not _drawn_alike(
            np.bincount(said, minlength=len(shares)), shares
        ):
            why = (
                f"the {count:,} clean rows were drawn unlike the training rows, and are too few to "
                f"tell how often a model is mistaken in each class; {_CLEAN_WOULD_TELL}"
            )
            return NoiseRate(None, None, level, "none", count, why)
        mistaken = mistakes(one.clean_labels, said, shares)
        found.append((mistaken.rate, mistaken.rows))
    # The clean rows are the same for all models, so that more models are no more rows.
    rate, worth = np.mean(found, axis=0)
    true_low, true_high = exact_interval(float(rate), float(worth), inner)
    low = max(0.0, given_low - true_high, true_low - given_high)
    high = min(1.0, given_high + true_high)
    if high - low > _TELLING:
        why = (
            f"a model that has not seen them is mistaken in {_percent(float(rate))} of {count:,} "
            f"clean rows, too often to judge labels by; {_CLEAN_WOULD_TELL}"
        )
        return NoiseRate(None, None, level, "none", count, why)
    return NoiseRate(low, high, level, "a model asked about clean rows", count)


def _why_unknown(asked: Sequence[Asked], rows: int) -> str:
    if any(surest_disagree(one.probabilities, one.labels)[0] == 1 for one in asked):
        reason = "a model that has not seen them agrees with them by chance only"
    elif rows < _FEW:
        reason = f"only {rows:,} were held out of training, too few to judge by"
    else:
        disagree = np.mean([np.mean(one.probabilities.argmax(1) != one.labels) for one in asked])
        reason = (
            f"a model that has not seen them disagrees with {_percent(float(disagree))}, but its "
            "own mistakes are among these, and wrong labels that can be learnt are not"
        )
    return f"{reason}; {_CLEAN_WOULD_TELL}"


@dataclass(frozen=True)
class Mistakes:
    """A rate, how many independent rows it is worth, and what resampled rows give for it, where
    these were weighted by class, before bias is taken off (`_RESAMPLED`,)."""

    rate: float
    rows: float
    resampled: np.ndarray | None = None


def mistakes(true: np.ndarray, said: np.ndarray, shares: np.ndarray) -> Mistakes:
    """P(said ≠ true) where `said` is as frequent as `shares`, and how many rows it is worth.

    Post-stratified by true class, where the rows were not drawn as the others are: with T the
    confusion P(said | true), the frequencies π of the true classes solve πT = shares (Saerens,
    Latinne and Decaestecker 2002; Lipton et al. 2018), and the rate is Σ_y π_y P(said ≠ y | y). A
    parametric bootstrap of all of this takes its bias off, and its variance says how many
    independent rows would tell as much (Korn and Graubard 1998), at most as many as there are.

    true, said: (m,) class numbers. shares: (classes,), counts of the rows to be told of.
    """
    classes, rows, told = len(shares), len(true), int(shares.sum())
    plain = float(np.mean(true != said))
    if _drawn_alike(np.bincount(said, minlength=classes), shares):
        return Mistakes(plain, float(rows))
    shares = shares / told
    counts = np.zeros((classes, classes))
    np.add.at(counts, (true, said), 1)
    sizes = counts.sum(1).astype(int)
    confusion = _confusion(counts[None], shares)
    at_first = float(_weighted(confusion, shares)[0])
    generator = np.random.default_rng(0)
    drawn = np.stack([generator.multinomial(sizes, confusion[0]) for _ in range(_RESAMPLED)])
    shares_again = generator.multinomial(told, shares, size=_RESAMPLED) / told
    again = _weighted(_confusion(drawn.astype(float), shares), shares_again)
    rate = float(np.clip(2 * at_first - again.mean(), 0, 1)) if plain > 0 else 0.0
    if rate * (1 - rate) == 0:  # nothing was seen of it: as many rows as even weights would be
        held = np.flatnonzero(sizes)
        weights = shares[held] / max(float(shares[held].sum()), 1e-12)
        return Mistakes(rate, min(float(rows), 1 / float((weights**2 / sizes[held]).sum())))
    worth = rate * (1 - rate) / max(float(again.var()), 1e-12)
    return Mistakes(rate, float(np.clip(worth, 1.0, rows)), again)


def _drawn_alike(counts: np.ndarray, others: np.ndarray) -> bool:
    """Whether two counts (classes,) may be draws of the same: Pearson's statistic, simulated.

    Frequencies of 0 are taken for next to none.
    """
    rows, told = int(counts.sum()), int(others.sum())
    shares = others / told
    expected = np.maximum(shares * rows, 1e-3)
    generator = np.random.default_rng(0)
    found = generator.multinomial(told, shares, size=_DRAWS) / told  # these are drawn, too
    drawn = generator.multinomial(rows, found)

    def statistic(found: np.ndarray) -> np.ndarray:
        value: np.ndarray = ((found - expected) ** 2 / expected).sum(-1)
        return value

    return float(np.mean(statistic(drawn) >= statistic(counts))) > _UNLIKELY


def _confusion(counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """P(said | true) (draws, true, said) from counts, those of a class drawn to those of all.

    The more so, the fewer its rows and the less classes differ beyond chance in how often they are
    mistaken (beta-binomial by moments: Kleinman 1973). What is left of chance in each class would
    not cancel: solving for frequencies gives weight to classes that seem to be mistaken more.
    """
    classes, sizes = len(shares), counts.sum(2)
    rows, wrong = sizes.sum(1), sizes - np.diagonal(counts, axis1=1, axis2=2)
    rate = (wrong.sum(1) + 0.5) / (rows + 1)  # never quite certain, or the resampled never err
    chance = rate * (1 - rate)
    square = (wrong - sizes * rate[:, None]) ** 2 / np.maximum(sizes, 1)
    held = (sizes > 0).sum(1)
    excess = square.sum(1) - (held - 1) * chance
    between = np.maximum(excess, 0) / np.maximum(rows - (sizes**2).sum(1) / rows, 1e-9)
    prior = np.clip(chance / np.maximum(between, 1e-9) - 1, 0.5, 1e6)
    others = np.broadcast_to(shares, (classes, classes)) * (1 - np.eye(classes))
    others = others / np.maximum(others.sum(1, keepdims=True), 1e-12)
    pooled = (1 - rate)[:, None, None] * np.eye(classes) + rate[:, None, None] * others
    smoothed: np.ndarray = counts + prior[:, None, None] * pooled
    return smoothed / smoothed.sum(2, keepdims=True)


def stratum_weights(true: np.ndarray, said: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """How much each row (m,) counts for what it says of rows where `said` is as frequent as
    `shares`; mean 1. As `mistakes` weighs true classes; 1 each where the rows may be a random draw.
    """
    classes, rows = len(shares), len(true)
    if rows == 0 or _drawn_alike(np.bincount(said, minlength=classes), shares):
        return np.ones(rows)
    shares = shares / shares.sum()
    counts = np.zeros((classes, classes))
    np.add.at(counts, (true, said), 1)
    weight: np.ndarray = _frequencies(_confusion(counts[None], shares), shares)[0][true]
    weight = weight / np.maximum(counts.sum(1), 1)[true]
    return weight / weight.mean()


def _weighted(confusion: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Σ_y π_y P(said ≠ y | y) of confusions (draws, true, said)."""
    right = _frequencies(confusion, shares) * np.diagonal(confusion, axis1=1, axis2=2)
    rate: np.ndarray = 1 - right.sum(1)
    return rate


def _frequencies(confusion: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """π (draws, classes), of sum 1, with πT as near to `shares`, by expectation maximisation."""
    frequencies = np.broadcast_to(shares, confusion.shape[:2])
    for _ in range(_ITERATIONS):
        expected = np.matmul(frequencies[:, None], confusion)[:, 0]
        ratio = shares / np.maximum(expected, 1e-12)
        frequencies = frequencies * np.matmul(confusion, ratio[:, :, None])[:, :, 0]
    found: np.ndarray = frequencies / frequencies.sum(1, keepdims=True)
    return found


def as_fields(rate: NoiseRate | None) -> dict[str, Any] | None:
    """For metrics.json."""
    return None if rate is None else {**asdict(rate), "sentence": rate.sentence}


def _percent(share: float) -> str:
    """Whole per cents; one digit more of small ones."""
    return f"{share:.0%}" if share >= 0.0995 or share == 0 else f"{share:.1%}"
