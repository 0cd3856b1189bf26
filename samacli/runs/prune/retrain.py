"""Retraining from scratch on what is kept: the proof of a selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedModel

from samacli.data.carve import halves
from samacli.export.results import Results
from samacli.methods.run import MethodRun, measured
from samacli.pruning.curve import Budget, Point
from samacli.runs.prune.order import select_random
from samacli.training.experiment import Experiment
from samacli.training.tracking import track_evaluation

# Results of a way of choosing rows, at each keep.
Measured = dict[str, dict[str, Results]]


@dataclass
class Retrained:
    """methods: by name, then by keep, at the same number of steps; likewise `by_epochs`.

    model: of the first seed on the exported rows.
    """

    methods: Measured = field(default_factory=dict)
    by_epochs: Measured = field(default_factory=dict)
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
    recipe = experiment.recipe
    verify, baselines = recipe.prune.verify, recipe.prune.baselines
    ours, exported = next(iter(selections)), next(iter(counts))
    done = Retrained(steps_by_epochs=steps_by_epochs(experiment, counts))

    def train_on(name: str, keep: str, seed: int, chosen: np.ndarray | None) -> None:
        at = f"{name} at {keep}" if keep else name
        lengths: list[tuple[str, Measured, int | None]] = [(at, done.methods, None)]
        if verify and keep:
            longer = f"{at}, same epochs"
            lengths.append((longer, done.by_epochs, done.steps_by_epochs[keep]))
        for called, methods, steps in lengths:
            if experiment.test is not None:
                called = f"{called}, seed {seed}"
            # Whether the model is still asked for when a run goes on.
            keep_model = name == ours and keep == exported and done.model is None
            part = experiment.part(called, MethodRun, keep_model=keep_model)
            run = part.result
            if run is None:
                fit = experiment.fit_plainly(
                    experiment.train, seed, called, rows=chosen, steps=steps
                )
                run = part.finish(measured(called, seed, [fit], experiment.evaluate(fit.model)))
            methods.setdefault(name, {}).setdefault(keep, Results()).add(run, run.evaluation)
            if keep_model:
                done.model = run.model
            if methods is done.methods:
                track_evaluation(experiment.accelerator, called, run.evaluation)

    if experiment.test is None:
        train_on(ours, exported, recipe.seed, selections[ours][exported])
        return done
    for seed in recipe.seeds:
        if "full" in baselines or verify:
            train_on("full", "", seed, None)
        for keep, count in counts.items():
            if "random" in baselines:
                train_on("random", keep, seed, select_random(experiment, count, seed))
            for name, by_keep in selections.items():
                if name == ours or verify:
                    train_on(name, keep, seed, by_keep[keep])
    return done


def steps_by_epochs(experiment: Experiment, counts: Mapping[str, int]) -> dict[str, int]:
    """Steps at each keep that are as many epochs as all steps are on all rows."""
    labelled = max(1, int((experiment.splits.train.labels >= 0).sum()))
    return {
        keep: max(1, round(experiment.steps * count / labelled)) for keep, count in counts.items()
    }


def points(experiment: Experiment, done: Retrained, counts: Mapping[str, int]) -> list[Point]:
    """The curve's points, of both budgets.

    What is recommended is judged by one half of the test rows, and the curve is drawn from the
    other: a subset that was chosen by luck does not show it.
    """
    assert experiment.splits.test is not None
    drawn, judging = halves(experiment.splits.test.labels, experiment.recipe.seed)
    budgets: dict[Budget, Measured] = {"steps": done.methods, "epochs": done.by_epochs}
    return [
        Point(
            selection=name,
            keep=keep,
            rows=counts.get(keep, len(experiment.train)),
            budget=budget,
            steps=experiment.steps if budget == "steps" else done.steps_by_epochs[keep],
            accuracy=tuple(float(right[drawn].mean()) for right in method.right),
            judged=tuple(right[judging] for right in method.right),
        )
        for budget, methods in budgets.items()
        for name, by_keep in methods.items()
        for keep, method in by_keep.items()
        if method.right
    ]
