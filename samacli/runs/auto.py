"""What a recipe's `auto` comes to with the data and the device at hand, and why."""

from __future__ import annotations

from pathlib import Path

from samacli.data import EncodedImages
from samacli.data.files import file_kind
from samacli.methods.sama import auto_values as auto_of_sama
from samacli.models import is_pretrained
from samacli.training.experiment import Experiment
from samacli.training.settle import Resolved


def auto_values(experiment: Experiment, command: str) -> list[Resolved]:
    """Every `auto` of the recipe that `command` ("reweight", "prune", "train") looks at."""
    recipe = experiment.recipe
    found = list(experiment.settled)
    if recipe.data.source == "auto":
        found.append(_source(experiment))
    if recipe.task == "image-classification" and recipe.data.normalize == "auto":
        found.append(_normalize(experiment))
    if recipe.training.precision == "auto":
        bf16 = experiment.accelerator.mixed_precision == "bf16"
        found.append(
            Resolved(
                "training.precision",
                "bf16" if bf16 else "fp32",
                f"{experiment.accelerator.device.type} {'computes' if bf16 else 'does not compute'}"
                " in bf16",
            )
        )
    if command == "reweight":
        found += [Resolved(*one) for one in auto_of_sama(experiment)]
    if command == "prune":
        found += _of_pruning(experiment)
    return found


def _source(experiment: Experiment) -> Resolved:
    data = experiment.recipe.data
    named = data.path or data.train or ""
    origin = experiment.splits.train.origin  # the file, where a folder is named
    for name in map(Path, (named, origin)):
        if (kind := file_kind(name)) is not None:
            return Resolved("data.source", kind, f"by the ending of {name.name}")
    return Resolved("data.source", origin, "by what is there")


def _normalize(experiment: Experiment) -> Resolved:
    images = experiment.train
    assert isinstance(images, EncodedImages)
    height, width = images.statistics.size
    if not is_pretrained(experiment.recipe.model):
        why = f"the model starts from scratch; images are {width} × {height} pixels"
        return Resolved("data.normalize", "train", why)
    why = f"the model is pretrained on images of {width} × {height} pixels"
    return Resolved("data.normalize", "model", why)


def _of_pruning(experiment: Experiment) -> list[Resolved]:
    config = experiment.recipe.prune
    found = []
    if config.trust == "auto":
        why = f"one of {config.folds} parts is held out, and asked for wrong labels"
        found.append(Resolved("prune.trust", "by cross-validation", why))
    if config.order == "auto":
        why = "how much the model learns at once is known when rows have been scored"
        found.append(Resolved("prune.order", "chosen after scoring", why))
    return found
