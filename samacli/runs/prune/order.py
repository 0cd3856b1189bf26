"""Which trusted rows to keep first, tried out on training rows that are held out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samacli.export.results import Cost
from samacli.methods.out_of_sample import one_part_held_out, train_and_ask
from samacli.methods.run import MethodRun
from samacli.pruning.ranking import ORDERS, Order, rank
from samacli.pruning.scores import Random
from samacli.pruning.selection import Select, keep_by_class, keep_highest
from samacli.registry import SCORES, load
from samacli.training.experiment import Experiment

# Standard errors: what one model gets right varies from run to run beyond the rows it is asked.
_CLEAR = 2.0


@dataclass(frozen=True)
class Tried:
    """What the orders gave for one keep, on held-out training rows.

    accuracy: by order, a figure a seed. chosen: the paper's own, `highest`, unless another is
    clearly better: by more than two standard errors of the difference.
    """

    accuracy: dict[Order, list[float]]
    chosen: Order


def try_orders(
    experiment: Experiment,
    weigh: Callable[[int, np.ndarray], MethodRun],
    right: np.ndarray,
    keeps: Mapping[str, int],
    seeds: Sequence[int],
) -> tuple[dict[str, Tried], list[Cost]]:
    """Every order at every keep.

    Which order is best depends on how much is kept and on how much data the model needs (Sorscher
    et al. 2022); no score knows it. So a fold is held out (another one each seed), weights are
    learnt without it, each order chooses as large a fraction of the other folds as is to be kept, a
    model is trained on that for as many steps as any other run, and asked about the held-out rows.
    A row counts there with the probability that its given label is right, which all orders share;
    the test split is not looked at.

    weigh: learns the weights of a seed from rows of the training split (m,) alone. right: as `rank`
    takes it. keeps: rows to keep of the training split, by text.
    """
    labels, folds = experiment.splits.train.labels, experiment.recipe.prune.folds
    rows = np.flatnonzero(labels >= 0)
    agrees: dict[str, dict[Order, list[np.ndarray]]] = {
        keep: {order: [] for order in ORDERS} for keep in keeps
    }
    trust: list[np.ndarray] = []
    runs: list[Cost] = []
    for seed in seeds:
        seen, unseen = one_part_held_out(rows, labels, folds, seed)
        weighed = weigh(seed, seen)
        assert weighed.scored is not None
        weight = weighed.scored.weight
        runs.append(weighed)
        trust.append(right[unseen])
        for keep, count in keeps.items():
            as_many = max(1, round(count * len(seen) / len(labels)))
            for order in ORDERS:
                scores = rank(weight[seen], right[seen], labels[seen], order)
                chosen = seen[select(experiment, scores, labels[seen], as_many)]
                name = f"{order} weights first at {keep}, held out, seed {seed}"
                found = train_and_ask(experiment, seed, name, chosen, unseen)
                agrees[keep][order].append(found.logits.argmax(-1) == labels[unseen])
                runs += found.fits
    return {keep: choose_order(by_order, trust) for keep, by_order in agrees.items()}, runs


def choose_order(
    agrees: Mapping[Order, Sequence[np.ndarray]], trust: Sequence[np.ndarray]
) -> Tried:
    """Compare the orders by which held-out rows each one's model got right.

    The standard error is that of the mean difference over all held-out rows of all seeds.

    agrees: bool (m,) a seed, whether the prediction is the given label, by order.
    trust: (m,) a seed, how much each of these rows counts.
    """
    accuracy = {
        order: [float(np.average(a, weights=w)) for a, w in zip(by_seed, trust, strict=True)]
        for order, by_seed in agrees.items()
    }
    weights = np.concatenate(trust)
    ours = np.concatenate(agrees["highest"]).astype(float)
    chosen: Order = "highest"
    best = 0.0
    for order, by_seed in agrees.items():
        difference = np.concatenate(by_seed) - ours
        mean = float(np.average(difference, weights=weights))
        squares = (weights * (difference - mean)) ** 2
        error = float(np.sqrt(squares.sum()) / weights.sum())
        if mean > max(_CLEAR * error, best):
            chosen, best = order, mean
    return Tried(accuracy, chosen)


def select_random(experiment: Experiment, count: int, seed: int) -> np.ndarray:
    """`count` training rows at random, drawn as every score's are: by class if the recipe says so,
    labelled ones first."""
    labels = experiment.splits.train.labels
    scores = labelled_first(Random(len(labels), seed=seed).result(), labels)
    return select(experiment, scores, labels, count)


def labelled_first(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Scores (n,) without one (NaN) where there is no label, as scores of training runs are."""
    return np.where(labels >= 0, scores, np.nan)


def select(
    experiment: Experiment,
    scores: np.ndarray,
    labels: np.ndarray,
    count: int,
    name: str = "sama",
    *,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """The `count` rows of the highest `scores` (n,), by class if the recipe says so.

    name: the score's; some (CCS) are more than that, and their rows are drawn as their paper does.
    groups: of near-duplicates (n,), whose copies are the first to go.
    """
    choose: Select = keep_highest
    if name in SCORES and (drawing := SCORES[name].select) is not None:
        choose = functools.partial(load(drawing), seed=experiment.recipe.seed)
    if not experiment.recipe.prune.class_balanced:
        labels = np.zeros_like(labels)
    return keep_by_class(scores, labels, count, choose, groups=groups)
