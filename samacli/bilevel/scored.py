"""What a run says of each training row, and several runs together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from samacli.bilevel.rater import Rater
from samacli.bilevel.weight_function import WeightFunction
from samacli.data import Split
from samacli.training.metrics import noise_detection


@dataclass(frozen=True)
class Scored:
    """What one SAMA run learnt of each row of the training split (n).

    weight: mean 1 over the rows that were trained on, 0 for the others.
    loss: cross-entropy with the given label, nats (nan without one).
    uncertainty: KL(averaged model ‖ model), nats.
    probabilities: (n, classes), the model's.
    targets: (n, classes), corrected labels, where they are learnt; of rows that the clean set has
    too, the clean ones.
    mislabelled: score in [0, 1] for the given label being wrong (nan without one), where a clean
        set tells what given labels are worth; no calibrated probability.
    weight_function: weight against loss, where the loss is a feature.
    doubt: why `mislabelled` is not known (nan), where clean rows say that nothing was learnt.
    slope: the predicted slope of the clean loss, see `SlopeRegression.predict`; positive: training
        on the row lowers it. Where weights are fitted to slopes.
    rater: what predicts it for other rows, where it looks at nothing that only training rows have.
    value: what the row did to the clean loss along the run, see `ExampleHistory`; NaN for rows that
        no meta step met.
    """

    weight: np.ndarray
    loss: np.ndarray
    uncertainty: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray | None
    mislabelled: np.ndarray | None
    weight_function: WeightFunction | None = None
    doubt: str | None = None
    slope: np.ndarray | None = None
    rater: Rater | None = None
    value: np.ndarray | None = None


@dataclass(frozen=True)
class Summary:
    """Means over the runs, a row a training example (n).

    weight: mean 1. loss, uncertainty: nats. prediction: class ids from the mean probabilities.
    corrected: class ids from the mean corrected targets, where they are learnt.
    mislabelled: how probable it is that the given label is wrong, where a clean set tells; a
        score, unless it is `calibrated`.
    slope: the mean predicted slope, where weights are fitted to slopes.
    value: the mean over the runs that met the row of what it did to the clean loss, nats.
    noise: how well that probability, or else low weight, finds wrong labels, where the truth is
        known; `by_weight_average_precision` and `by_weight_auroc` are of the weight (of the slope
        that it is made of, where there is one: weights of what is left out are nearly all alike).
    weight_functions: weight against loss, of each run, where the loss is a feature.
    doubt: why `mislabelled` is not known, where no run knows it.
    """

    weight: np.ndarray
    loss: np.ndarray
    uncertainty: np.ndarray
    prediction: np.ndarray
    corrected: np.ndarray | None
    mislabelled: np.ndarray | None
    noise: dict[str, float] | None
    train: Split
    slope: np.ndarray | None = None
    value: np.ndarray | None = None
    weight_functions: tuple[WeightFunction, ...] = ()
    doubt: str | None = None
    calibrated: bool = False

    def with_probabilities(self, probability: np.ndarray, known: np.ndarray) -> Summary:
        """With calibrated probabilities (n,) in place of scores; but of `known` rows (n,), of which
        nothing was to be found out, as they are. They leave no doubt."""
        noise, train = self.noise, self.train
        mislabelled = probability
        if self.mislabelled is not None:
            mislabelled = np.where(known, self.mislabelled, probability)
        if train.true_labels is not None:
            goodness = 1 - np.nan_to_num(mislabelled, nan=0.0)
            asked = np.where(known, -1, train.labels)
            found = noise_detection(asked, train.true_labels, goodness, mislabelled)
            noise = None if found is None else {**(noise or {}), **found}
        return replace(self, mislabelled=mislabelled, noise=noise, calibrated=True, doubt=None)


def summarize(scored: Sequence[Scored], train: Split, known: np.ndarray | None = None) -> Summary:
    """Average the runs' scores of the training split.

    known: bool (n,), rows of which nothing was to be found out, since the clean set has them too.
    """

    def mean(name: str) -> np.ndarray:
        return np.mean([getattr(one, name) for one in scored], axis=0)

    weight = mean("weight")
    sure = [one for one in scored if one.doubt is None]
    doubt = None if sure else scored[0].doubt
    mislabelled = None
    if scored[0].mislabelled is not None:
        told = [one.mislabelled for one in sure or scored if one.mislabelled is not None]
        mislabelled = np.mean(told, axis=0)
    slope = None if scored[0].slope is None else mean("slope")
    noise = None
    if train.true_labels is not None:
        goodness = weight if mislabelled is None or doubt else 1 - mislabelled
        asked = train.labels if known is None else np.where(known, -1, train.labels)
        noise = noise_detection(asked, train.true_labels, goodness, mislabelled)
        by_weight = noise_detection(asked, train.true_labels, weight if slope is None else slope)
        if noise is not None and by_weight is not None:
            noise |= {
                f"by_weight_{name}": by_weight[name] for name in ("average_precision", "auroc")
            }
    return Summary(
        weight=weight,
        loss=mean("loss"),
        uncertainty=mean("uncertainty"),
        prediction=mean("probabilities").argmax(-1),
        corrected=None if scored[0].targets is None else mean("targets").argmax(-1),
        mislabelled=mislabelled,
        noise=noise,
        train=train,
        slope=slope,
        value=_mean_of_known([one.value for one in scored if one.value is not None]),
        weight_functions=tuple(
            one.weight_function for one in scored if one.weight_function is not None
        ),
        doubt=doubt,
    )


def _mean_of_known(values: Sequence[np.ndarray]) -> np.ndarray | None:
    """(n,), NaN where none is known; None without any."""
    if not values:
        return None
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(0)
    return np.where(known.any(0), total / known.sum(0).clip(min=1), np.nan)
