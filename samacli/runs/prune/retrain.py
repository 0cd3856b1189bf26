"""Retraining from scratch on what is kept: the proof of a selection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedModel

from samacli.export.results import Results
from samacli.methods.run import MethodRun, measured
from samacli.pruning.curve import Budget, Point
from samacli.pruning.selection import keep_random
from samacli.training.experiment import Experiment
from samacli.training.tracking import track_evaluation

# Rows to train on, by seed; None: all.
Chosen = Callable[[int], np.ndarray | None]


@dataclass
class Retrained:
    """methods: by name, then by keep, at the same number of steps; likewise `by_epochs`.

    model: of the first seed on the exported rows.
    """

    methods: dict[str, dict[str, Results]] = field(default_factory=dict)
    by_epochs: dict[str, dict[str, Results]] = field(default_factory=dict)
    steps_by_epochs: dict[str, int] = field(default_factory=dict)
    model: PreTrainedModel | None = None


def retrain(
    experiment: Experiment,
    selections: Mapping[str, Mapping[str, np.ndarray]],
    counts: Mapping[str, int],
) -> Retrained:
    """Every selection at every keep, once a seed, beside the recipe's baselines.

    The exported model is the first selection's at the first keep. Without a test split it alone is
    trained, since nothing would tell the others apart. With `prune.verify` every selection is
    measured, and a second time for as many epochs as on all rows; else the first alone.

    selections: rows of the training split by name and keep. counts: their numbers by keep.
    """
    recipe, rows = experiment.recipe, len(experiment.train)
    verify = recipe.prune.verify
    ours = next(iter(selections))
    exported = next(iter(counts))
    done = Retrained()
    labelled = max(1, int((experiment.splits.train.labels >= 0).sum()))
    done.steps_by_epochs = {
        keep: max(1, round(experiment.steps * count / labelled)) for keep, count in counts.items()
    }

    def train_on(
        name: str, keep: str, seed: int, chosen: np.ndarray | None
    ) -> PreTrainedModel | None:
        at = f"{name} at {keep}" if keep else name
        first = name == ours and keep == exported and done.model is None
        run = _measure(experiment, f"{at}, seed {seed}", seed, chosen, keep_model=first)
        by_keep = done.methods.setdefault(name, {})
        by_keep.setdefault(keep, Results()).add(run, run.evaluation)
        track_evaluation(experiment.accelerator, f"{at}, seed {seed}", run.evaluation)
        if verify and keep:
            short = _measure(
                experiment,
                f"{at}, same epochs, seed {seed}",
                seed,
                chosen,
                steps=done.steps_by_epochs[keep],
            )
            by_keep = done.by_epochs.setdefault(name, {})
            by_keep.setdefault(keep, Results()).add(short, short.evaluation)
        return run.model

    if experiment.test is None:
        chosen = selections[ours][exported]
        run = _measure(experiment, f"{ours} at {exported}", recipe.seed, chosen, keep_model=True)
        done.methods = {ours: {exported: Results()}}
        done.methods[ours][exported].add(run, None)
        done.model = run.model
        return done
    baselines = recipe.prune.baselines
    for seed in recipe.seeds:
        if "full" in baselines or verify:
            train_on("full", "", seed, None)
        for keep, count in counts.items():
            if "random" in baselines:
                train_on("random", keep, seed, keep_random(rows, count, seed))
            for name, by_keep in selections.items():
                if name == ours or verify:
                    model = train_on(name, keep, seed, by_keep[keep])
                    if name == ours and keep == exported and done.model is None:
                        done.model = model
    return done


def _measure(
    experiment: Experiment,
    name: str,
    seed: int,
    rows: np.ndarray | None,
    *,
    steps: int | None = None,
    keep_model: bool = False,
) -> MethodRun:
    """Train on `rows` and test. keep_model: whether it is still asked for when a run goes on."""

    def compute() -> MethodRun:
        run = experiment.fit_plainly(experiment.train, seed, name, rows=rows, steps=steps)
        return measured(name, seed, [run], experiment.evaluate(run.model))

    return experiment.once(name, MethodRun, compute, keep_model=keep_model)


def points(experiment: Experiment, done: Retrained, counts: Mapping[str, int]) -> list[Point]:
    """The curve's points, of both budgets."""
    found: list[Point] = []
    budgets: tuple[tuple[Budget, dict[str, dict[str, Results]]], ...] = (
        ("steps", done.methods),
        ("epochs", done.by_epochs),
    )
    for budget, methods in budgets:
        for name, by_keep in methods.items():
            for keep, method in by_keep.items():
                if not method.accuracy:
                    continue
                rows = counts.get(keep, len(experiment.train))
                steps = experiment.steps
                if budget == "epochs":
                    steps = done.steps_by_epochs[keep]
                found.append(Point(name, keep, rows, budget, steps, tuple(method.accuracy)))
    return found
