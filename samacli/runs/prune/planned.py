"""The trainings of `sama prune` beforehand, in their order and by the names that its parts use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from samacli.methods.sama import planned_fit
from samacli.progress import Planned
from samacli.pruning.ranking import ORDERS
from samacli.runs.prune.retrain import steps_by_epochs
from samacli.training.experiment import Experiment


def planned(experiment: Experiment, counts: Mapping[str, int]) -> list[Planned]:
    """What scores and trust are made of, then what is trained on what is kept.

    counts: rows to keep, by text.
    """
    return [*_scoring(experiment, list(counts)), *_retraining(experiment, counts)]


def _scoring(experiment: Experiment, keeps: list[str]) -> Iterator[Planned]:
    recipe = experiment.recipe
    config, seeds = recipe.prune, recipe.score_seeds
    if set(config.scores) != {"sama"} or "auto" in (config.trust, config.order):
        for seed in seeds:
            yield _untested(experiment, f"scores, seed {seed}", "plain, that scores look on at")
    if config.trust == "auto":
        steps = max(1, math.ceil(experiment.steps * (config.folds - 1) / config.folds))
        for seed in seeds:
            description = f"how many labels are wrong, seed {seed}"
            name = "with a part held out, for trust in labels"
            yield _untested(experiment, description, name, steps)
    for seed in seeds:
        description = f"sama scores, seed {seed}"
        name = "sama, for the weights"
        yield planned_fit(experiment, seed, description, name, config.features)
    if config.order == "trial":
        for seed in seeds:
            description = f"sama scores of the other folds, seed {seed}"
            name = "sama, for the trials of orders"
            yield planned_fit(experiment, seed, description, name, config.features)
            for keep in keeps:
                for order in ORDERS:
                    description = f"{order} weights first at {keep}, held out, seed {seed}"
                    yield _untested(experiment, description, "trials of orders, a part held out")


def _retraining(experiment: Experiment, counts: Mapping[str, int]) -> Iterator[Planned]:
    config, seeds = experiment.recipe.prune, experiment.recipe.seeds
    if experiment.test is None:
        at = f"sama at {next(iter(counts))}"
        yield experiment.planned(at, at)
        return
    names = ["random"] if "random" in config.baselines else []
    names += ["sama", *(name for name in config.scores if name != "sama" and config.verify)]
    by_epochs = steps_by_epochs(experiment, counts)
    for seed in seeds:
        if "full" in config.baselines or config.verify:
            yield experiment.planned(f"full, seed {seed}", "full")
        for keep in counts:
            for name in names:
                at = f"{name} at {keep}"
                yield experiment.planned(f"{at}, seed {seed}", at)
                if config.verify:
                    longer = f"{at}, same epochs"
                    steps = by_epochs[keep]
                    yield experiment.planned(f"{longer}, seed {seed}", longer, steps=steps)


def _untested(
    experiment: Experiment, description: str, name: str, steps: int | None = None
) -> Planned:
    """A plain training whose model only looks at a part of the training rows."""
    one = experiment.planned(description, name, steps=steps)
    return Planned(one.description, one.name, one.steps, one.rows)
