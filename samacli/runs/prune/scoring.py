"""Scores of the training rows: how far each label is trusted, SAMA's weights, and a ranking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import log_softmax, softmax

from samacli.bilevel.scored import Summary, summarize
from samacli.errors import SamaError
from samacli.export.results import Cost, Results
from samacli.methods.out_of_sample import one_part_held_out, train_and_ask
from samacli.methods.run import MethodRun, measured
from samacli.methods.sama import fit_sama
from samacli.pruning.diagnosis import Diagnosis, diagnose
from samacli.pruning.label_noise import (
    TRUSTED,
    Asked,
    LabelNoise,
    estimate_label_noise,
    rate_of_wrong_labels,
)
from samacli.pruning.noise_rate import known_noise_rate, rate_through_models
from samacli.pruning.ranking import Order, rank, rank_without_redundant
from samacli.pruning.scores import Learnt, MeanLoss, make_scores, results
from samacli.runs.prune.order import Tried, try_orders
from samacli.training.experiment import Experiment
from samacli.training.loop import Fit
from samacli.training.metrics import noise_detection


@dataclass(frozen=True)
class Scores:
    """What the scoring runs found; n rows of the training split.

    rankings: scores (n,), higher is kept first, by name and keep; "sama" is the first.
    right: probability that the given label is right (n,), not calibrated; None where all are
    trusted alike.
    order: of the trusted rows, by keep. tried: what each order gave on held-out training rows.
    meta_data: what the weights were learnt from. costs: runs and seconds of each part.
    scoring: the SAMA runs.
    """

    summary: Summary
    rankings: dict[str, dict[str, np.ndarray]]
    right: np.ndarray | None
    order: dict[str, str]
    tried: dict[str, dict[Order, list[float]]]
    diagnosis: Diagnosis
    meta_data: str
    costs: dict[str, dict[str, float]]
    scoring: Results


@dataclass(frozen=True)
class _Look:
    """What was seen of each row during a plain run (n,), nan without a label.

    rivals: other scores by name. run: what it took.
    """

    run: MethodRun
    loss: np.ndarray
    learnt: np.ndarray
    rivals: dict[str, np.ndarray]


def score(experiment: Experiment, counts: Mapping[str, int]) -> Scores:
    """Score the training split; counts: rows to keep, by text.

    With `prune.trust=auto` a model that has not seen a part of the rows tells how many labels are
    wrong, and the losses that rows have during a plain run tell which. The weights are then learnt
    from the trusted rows, with the clean set as meta data or else those rows themselves, as in the
    paper: among right labels its preference for what is hard to learn is what one wants.

    Raises:
        SamaError: see `fit_sama` and `ask_of_held_out`.
    """
    recipe, train = experiment.recipe, experiment.splits.train
    config, seeds = recipe.prune, recipe.score_seeds
    rival_names = [name for name in config.scores if name != "sama"]
    costs: dict[str, dict[str, float]] = {}
    looks: list[_Look] = []
    if rival_names or "auto" in (config.trust, config.order):
        looks = [_look(experiment, seed, rival_names) for seed in seeds]
        costs["plain"] = _cost([look.run for look in looks])
    noise: LabelNoise | None = None
    noise_rate = known_noise_rate(experiment.splits)
    if config.trust == "auto":
        asked, fits = ask_of_held_out(experiment, seeds)
        costs["trust"] = _cost(fits)
        if noise_rate is None or noise_rate.low is None:
            noise_rate = rate_through_models(asked)
        between = noise_rate.narrow(*rate_of_wrong_labels(asked))
        noise = estimate_label_noise(_mean([look.loss for look in looks]), between, train.labels)
        if between[1] == 1 or np.sum(noise.right > TRUSTED) < len(experiment.splits.classes):
            # Models that have learnt nothing say nothing of labels; it is warned of.
            noise = LabelNoise(1.0, np.where(train.labels >= 0, 1.0, np.nan))
        noise = _with_known(experiment, noise)
        _tell_doubted_classes(experiment, noise)

    trusted = None if noise is None else np.flatnonzero(noise.trusted)
    runs = [_learn_weights(experiment, seed, trusted) for seed in seeds]
    costs["sama"] = _cost(runs)
    scoring = Results()
    for run in runs:
        scoring.add(run, None)
    known = experiment.splits.clean_twins >= 0
    summary = summarize([run.scored for run in runs if run.scored is not None], train, known)
    right = np.where(train.labels >= 0, 1.0, np.nan)
    told = None if noise is None or noise.rate == 1 else noise
    if told is not None:
        right = told.right
        summary = _with_noise(summary, told, known)

    tried: dict[str, Tried] = {}
    order: dict[str, str] = dict.fromkeys(counts, config.order)
    if config.order == "trial":

        def weigh(seed: int, seen: np.ndarray) -> MethodRun:
            among = seen if trusted is None else np.intersect1d(seen, trusted)
            return _learn_weights(experiment, seed, among, "sama scores of the other folds")

        tried, held_out = try_orders(experiment, weigh, right, counts, seeds)
        order = {keep: one.chosen for keep, one in tried.items()}
        costs["order"] = _cost(held_out)

    def ranking(by: str) -> np.ndarray:
        if by == "auto":
            learnt = _mean([look.learnt for look in looks]) == 1
            return rank_without_redundant(summary.weight, summary.loss, right, learnt, train.labels)
        return rank(summary.weight, right, train.labels, by)  # type: ignore[arg-type]

    rankings = {"sama": {keep: ranking(by) for keep, by in order.items()}}
    for name in rival_names:
        rankings[name] = dict.fromkeys(counts, _mean([look.rivals[name] for look in looks]))

    learnt_from = slice(None) if trusted is None else trusted
    rate = None if noise is None else noise.rate
    return Scores(
        summary=summary,
        rankings=rankings,
        right=None if told is None else told.right,
        order=order,
        tried={keep: dict(one.accuracy) for keep, one in tried.items()},
        diagnosis=diagnose(
            summary.weight[learnt_from],
            summary.loss[learnt_from],
            doubted=rate,
            noise_rate=noise_rate,
        ),
        meta_data=_meta_data(experiment, noise),
        costs=costs,
        scoring=scoring,
    )


def _tell_doubted_classes(experiment: Experiment, noise: LabelNoise) -> None:
    names = [experiment.splits.classes[k] for k in noise.doubted_classes]
    if names:
        experiment.progress.warn(
            f"nearly all labels are doubted of: {', '.join(names)}; the surest of them are kept in "
            "training, but look at these classes, or set prune.trust=none"
        )


def ask_of_held_out(experiment: Experiment, seeds: Sequence[int]) -> tuple[list[Asked], list[Fit]]:
    """What models say of labels that they were not trained on, and the runs that it took.

    Each seed holds out another part of the rows. The rest trains a model for as many epochs as any
    other run. It is asked about the rows held out, and about the clean set, where there is one,
    which tells how often it is mistaken.

    Raises:
        SamaError: no class has a row for each part.
    """
    train, folds = experiment.splits.train, experiment.recipe.prune.folds
    rows = np.flatnonzero(train.labels >= 0)
    largest = int(np.bincount(train.labels[rows], minlength=1).max())
    if largest < folds:
        raise SamaError(
            f"prune.trust=auto holds out one of {folds} parts (prune.folds), but the largest "
            f"class of {train.origin} has {largest} rows; lower it, or set prune.trust=none"
        )
    steps = max(1, math.ceil(experiment.steps * (folds - 1) / folds))
    asked: list[Asked] = []
    fits: list[Fit] = []
    for seed in seeds:
        seen, unseen = one_part_held_out(rows, train.labels, folds, seed)
        name = f"how many labels are wrong, seed {seed}"
        found = train_and_ask(experiment, seed, name, seen, unseen, steps=steps, also_clean=True)
        clean: tuple[np.ndarray, ...] = ()
        if found.clean is not None and experiment.splits.meta is not None:
            clean = softmax(found.clean, axis=1), experiment.splits.meta.labels
        asked.append(Asked(softmax(found.logits, axis=1), train.labels[unseen], *clean))
        fits += found.fits
    return asked, fits


def _look(experiment: Experiment, seed: int, names: Sequence[str]) -> _Look:
    """One plain run serves all of them."""
    description = f"scores, seed {seed}"
    part = experiment.part(description, _Look)
    if part.result is not None:
        return part.result
    rows, device = len(experiment.train), experiment.accelerator.device
    loss, learnt = MeanLoss(rows, device=device), Learnt(rows, device=device)
    rivals = make_scores(experiment, seed, names)
    observers = [loss, learnt, *rivals.values()]
    fit = experiment.fit_plainly(experiment.train, seed, description, observers=observers)
    return part.finish(
        _Look(
            measured(description, seed, [fit], None),
            _of_every_row(experiment, loss.result(), fit),
            learnt.result(),
            results(experiment, rivals, fit.model),
        )
    )


def _mean(values: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) over the runs."""
    mean: np.ndarray = np.mean(values, axis=0)
    return mean


def _of_every_row(experiment: Experiment, loss: np.ndarray, fit: Fit) -> np.ndarray:
    """Mean losses (n,); of rows that a short run never came to, what its trained model says."""
    labels = experiment.splits.train.labels
    missing = np.flatnonzero(np.isnan(loss) & (labels >= 0))
    if missing.size:
        logits = experiment.predict(
            fit.model, experiment.train, "rows not trained on", rows=missing
        )
        own = -log_softmax(logits.astype(float), axis=1)[np.arange(len(missing)), labels[missing]]
        loss[missing] = own - own.mean()
    return loss


def _learn_weights(
    experiment: Experiment, seed: int, rows: np.ndarray | None, called: str = "sama scores"
) -> MethodRun:
    name, features = f"{called}, seed {seed}", experiment.recipe.prune.features
    part = experiment.part(name, MethodRun)
    if part.result is not None:
        return part.result
    run, scored = fit_sama(experiment, seed, name, features=features, rows=rows)
    return part.finish(measured(name, seed, [run], None, scored=scored))


def _meta_data(experiment: Experiment, noise: LabelNoise | None) -> str:
    if experiment.meta is not None:
        return "clean set"
    labelled = experiment.splits.train.labels >= 0
    if noise is None or noise.trusted[labelled].all():
        return "training set"
    return "trusted part of the training set"


def _with_known(experiment: Experiment, noise: LabelNoise) -> LabelNoise:
    """Whether a label is right is known of rows that the clean set has too."""
    splits, right = experiment.splits, noise.right.copy()
    known = np.flatnonzero((splits.clean_twins >= 0) & (splits.train.labels >= 0))
    if splits.meta is not None:
        right[known] = splits.train.labels[known] == splits.meta.labels[splits.clean_twins[known]]
    return replace(noise, right=right)


def _with_noise(summary: Summary, noise: LabelNoise, known: np.ndarray) -> Summary:
    """With each row's probability of a wrong label; measured on rows not `known`, bool (n,)."""
    found = None
    if summary.train.true_labels is not None:
        right = np.nan_to_num(noise.right, nan=0.0)
        asked = np.where(known, -1, summary.train.labels)
        found = noise_detection(asked, summary.train.true_labels, right, 1 - noise.right)
    return replace(summary, mislabelled=1 - noise.right, noise=found)


def _cost(runs: Sequence[Cost]) -> dict[str, float]:
    return {
        "runs": len(runs),
        "seconds": sum(run.seconds for run in runs),
        "steps": sum(len(run.curve) for run in runs),
        "peak_memory_bytes": max(run.peak_memory_bytes for run in runs),
    }
