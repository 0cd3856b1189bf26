"""What training on data that are only looked at would take, from some of their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from samacli.errors import SamaError
from samacli.models.load import model_location
from samacli.models.small_resnet import SMALL_RESNETS
from samacli.recipe import Recipe
from samacli.runs.auto import auto_values
from samacli.runs.estimate import Estimate, estimate, plan_line
from samacli.runs.reweight import methods_of, planned_trainings
from samacli.training.experiment import FORWARD, Experiment
from samacli.training.runtime import DeviceName
from samacli.training.settle import Resolved

_ROWS = 256  # that are encoded, for a batch of them


@dataclass(frozen=True)
class Ahead:
    """auto: what the recipe's `auto`s would be. estimate: of all trainings of `sama reweight` with
    its defaults, or of one plain training where there is no clean set. sentence: that in words.
    """

    auto: list[Resolved]
    estimate: Estimate
    sentence: str


def look_ahead(recipe: Recipe, rows: Mapping[str, int], labelled: int, device: DeviceName) -> Ahead:
    """Prepare the recipe on a few rows and try a step, where the model is at hand.

    rows: of each split; labelled: training rows with a label.
    """
    here = _is_here(recipe)
    if here is not None:
        return Ahead([], Estimate(), f"how long training takes is not known: {here}")
    data = {"max_train_rows": _ROWS, "max_test_rows": _ROWS}
    few = recipe.model_copy(update={"data": recipe.data.model_copy(update=data)})
    try:
        experiment = Experiment.prepare(few, device=device, labelled=labelled)
    except SamaError as error:
        return Ahead([], Estimate(), f"how long training takes is not known: {error}")
    command = "train" if experiment.meta is None else "reweight"
    if experiment.meta is None:
        trainings = [experiment.planned("training", "training")]
    else:
        trainings = planned_trainings(experiment, methods_of(experiment))
    # What follows a training is of all rows.
    passes = {"plain": 0, "meta": 3 * rows["train"]}
    trainings = [
        replace(one, after=FORWARD * (rows.get("test", 0) + passes[one.kind])) for one in trainings
    ]
    auto = auto_values(experiment, command)
    found = estimate(experiment, trainings)
    what = "sama reweight" if command == "reweight" else "a plain training"
    return Ahead(auto, found, f"{what} {plan_line(trainings, found, [])}")


def _is_here(recipe: Recipe) -> str | None:
    """None where the model can be loaded without the network, else why not."""
    name = recipe.model.name
    if recipe.task == "image-classification" and name == "minilm":
        return "no model of images is named; --model resnet18-cifar, say"
    if name in SMALL_RESNETS:
        return None
    try:
        where = model_location(name)
    except SamaError as error:
        return str(error)
    if Path(where).is_dir():
        return None
    if isinstance(try_to_load_from_cache(where, "config.json"), str):
        return None
    return f"the model {name} is not in the cache, and would be fetched by a run"
