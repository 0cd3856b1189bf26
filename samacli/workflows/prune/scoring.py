"""Scores of the training rows: how far each label is trusted, SAMA's weights, and a ranking."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from samacli.pruning.diagnosis import Diagnosis, diagnose
from samacli.pruning.label_noise import LabelNoise
from samacli.pruning.ranking import Order, rank
from samacli.training.metrics import noise_detection
from samacli.workflows.bilevel import Scored, fit_sama
from samacli.workflows.experiment import Experiment
from samacli.workflows.methods.run import MethodRun, measured
from samacli.workflows.prune.order import try_orders
from samacli.workflows.prune.trust import label_noise
from samacli.workflows.results import Cost, Method
from samacli.workflows.score_run import score_training_set
from samacli.workflows.summary import Summary, summarize


@dataclass(frozen=True)
class Scores:
    """What the scoring runs found; n rows of the training split.

    rankings: scores (n,), higher is kept first, by name and keep; "sama" is the first.
    right: probability that the given label is right (n,); None where all are trusted alike.
    order: of the trusted rows, by keep. tried: what each order gave on held-out training rows.
    meta_data: what the weights were learnt from. costs: runs and seconds of each part.
    samples_per_second, peak_memory_bytes: of the SAMA runs.
    """

    summary: Summary
    rankings: dict[str, dict[str, np.ndarray]]
    right: np.ndarray | None
    order: dict[str, Order]
    tried: dict[str, dict[Order, list[float]]]
    diagnosis: Diagnosis
    meta_data: str
    costs: dict[str, dict[str, float]]
    scoring: Method
    samples_per_second: list[float]
    peak_memory_bytes: int


def score(experiment: Experiment, counts: Mapping[str, int]) -> Scores:
    """Score the training split; counts: rows to keep, by text.

    With `prune.trust=auto` cross-validation says which labels can be trusted. The weights are then
    learnt from the trusted rows, with the clean set as meta data or else those rows themselves, as
    in the paper: among right labels its preference for what is hard to learn is what one wants.

    Raises:
        SamaError: see `label_noise` and `fit_sama`.
    """
    recipe, train = experiment.recipe, experiment.splits.train
    seeds = recipe.score_seeds
    noise: LabelNoise | None = None
    estimate: tuple[float, float] | None = None
    costs: dict[str, dict[str, float]] = {}
    if recipe.prune.trust == "auto":
        noise, fits = label_noise(experiment, seeds)
        costs["trust"] = _cost(fits, sum(len(fit.curve) for fit in fits))
        estimate = noise.rate, noise.error
        if noise.trusted.sum() < len(experiment.splits.classes):
            noise = None  # models that have learnt nothing say nothing of labels; it is warned of

    scored: list[Scored] = []
    scoring = Method()
    runs: list[MethodRun] = []
    for seed in seeds:
        rows = None if noise is None else np.flatnonzero(noise.trusted)
        name = f"sama scores, seed {seed}"
        run = experiment.once(
            name, MethodRun, functools.partial(_learn_weights, experiment, name, seed, rows)
        )
        assert run.scored is not None
        scored.append(run.scored)
        scoring.add(run, None)
        runs.append(run)
    costs["sama"] = _cost(runs, sum(run.steps for run in runs))
    summary = summarize(scored, train)

    order: dict[str, Order] = dict.fromkeys(counts, "highest")
    tried: dict[str, dict[Order, list[float]]] = {}
    right = np.where(train.labels >= 0, 1.0, np.nan)
    if noise is not None:
        right = noise.right
        summary = _with_noise(summary, noise)
        if recipe.prune.order == "auto":
            found, fits = try_orders(experiment, summary.weight, right, counts, seeds)
            order = {keep: one.chosen for keep, one in found.items()}
            tried = {keep: dict(one.accuracy) for keep, one in found.items()}
            costs["order"] = _cost(fits, sum(len(fit.curve) for fit in fits))
    if recipe.prune.order != "auto":
        order = dict.fromkeys(counts, recipe.prune.order)

    rankings = {
        "sama": {
            keep: rank(summary.weight, right, train.labels, one) for keep, one in order.items()
        }
    }
    rivals = _rivals(experiment)
    rankings |= {name: dict.fromkeys(counts, values) for name, values in rivals.items()}

    learnt_from = np.ones(len(train), dtype=bool) if noise is None else noise.trusted
    return Scores(
        summary=summary,
        rankings=rankings,
        right=None if noise is None else noise.right,
        order=order,
        tried=tried,
        diagnosis=diagnose(
            summary.weight[learnt_from],
            summary.loss[learnt_from],
            noise=estimate,
            guarded=noise is not None,
        ),
        meta_data=_meta_data(experiment, noise),
        costs=costs,
        scoring=scoring,
        samples_per_second=scoring.samples_per_second,
        peak_memory_bytes=max(scoring.peak_memory_bytes),
    )


def _learn_weights(
    experiment: Experiment, name: str, seed: int, rows: np.ndarray | None
) -> MethodRun:
    run, scored = fit_sama(
        experiment, seed, name, features=experiment.recipe.prune.features, rows=rows
    )
    return measured(name, seed, [run], None, scored=scored)


@dataclass(frozen=True)
class _Rivals:
    scores: dict[str, np.ndarray]


def _rivals(experiment: Experiment) -> dict[str, np.ndarray]:
    """The other scores that the recipe asks for (n,), means over the runs; nan for rows unseen.

    One plain run a seed serves all of them.
    """
    names = [name for name in experiment.recipe.prune.scores if name != "sama"]
    if not names:
        return {}

    def look_on(seed: int) -> _Rivals:
        return _Rivals(score_training_set(experiment, seed, names))

    runs = [
        experiment.once(f"scores, seed {seed}", _Rivals, functools.partial(look_on, seed)).scores
        for seed in experiment.recipe.score_seeds
    ]
    return {name: np.mean([run[name] for run in runs], axis=0) for name in names}


def _meta_data(experiment: Experiment, noise: LabelNoise | None) -> str:
    if experiment.meta is not None:
        return "clean set"
    return "training set" if noise is None else "trusted part of the training set"


def _with_noise(summary: Summary, noise: LabelNoise) -> Summary:
    """With each row's probability of a wrong label, and how well it finds them."""
    found = None
    if summary.train.true_labels is not None:
        right = np.nan_to_num(noise.right, nan=0.0)
        found = noise_detection(summary.train.labels, summary.train.true_labels, right)
    return replace(summary, mislabelled=1 - noise.right, noise=found)


def _cost(runs: Sequence[Cost], steps: int) -> dict[str, float]:
    return {
        "runs": len(runs),
        "seconds": sum(run.seconds for run in runs),
        "steps": steps,
        "peak_memory_bytes": max(run.peak_memory_bytes for run in runs),
    }
