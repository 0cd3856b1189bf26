"""A recipe's `auto`s of model and training, settled by the data, the model and the device.

They are rules, not a search: nothing is tried on the data, and no label is looked at. What they
give is written into the recipe that a run leaves behind, and stays there when that is run again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from samacli.models import Shape, is_pretrained, model_shape
from samacli.recipe import Recipe, Training
from samacli.recipe.optimizers import has_weight_decay


@dataclass(frozen=True)
class Resolved:
    """A recipe's key that is `auto`, what it comes to, and the reason."""

    key: str
    value: Any
    why: str

    @property
    def text(self) -> str:
        """The value in a few characters, as YAML writes it."""
        if isinstance(self.value, bool):
            return str(self.value).lower()
        if isinstance(self.value, list):
            return f"[{self.value[0]}, …]" if len(self.value) > 1 else str(self.value)
        return f"{self.value:g}" if isinstance(self.value, float) else str(self.value)


@dataclass(frozen=True)
class Habit:
    """How a kind of model is trained: passes over the rows, and the fewest steps whatever they are.

    Few rows need a floor: 500 rows are 47 steps in three passes, which is no fine-tuning at all.
    """

    kind: str
    epochs: float
    fewest: int


# Of pretrained texts two passes: with wrong labels among them more are fitted than learnt from.
_HABITS = {
    ("text-classification", True): Habit("a pretrained text model", 2, 200),
    ("text-classification", False): Habit("a text model from scratch", 10, 500),
    ("image-classification", True): Habit("a pretrained image model", 5, 200),
    ("image-classification", False): Habit("an image model from scratch", 15, 500),
}
MOST_STEPS = 20_000
_WIDTH, _RATE = 768, 5e-5  # of BERT-base, and what it is fine-tuned with (Devlin et al. 2019)
_RATES = (1e-5, 5e-4)  # the lowest and the highest by a model's width
_UNKNOWN, _FROM_SCRATCH, _WITH_SGD = 5e-5, 5e-4, 0.05
_FROZEN, _DEEP = 2 / 3, 6  # of the layers, from below, of a model that has so many
_ON_A_CPU = (
    16  # rows a step: as good as 32 in as many steps, on the small sets that it was tried on
)
_META_STEPS, _MOST_UNROLLED = 100, 10


def settle(
    recipe: Recipe, labelled: int, device: torch.device, processes: int = 1
) -> tuple[Recipe, list[Resolved]]:
    """The recipe without these `auto`s, and what each of them came to.

    labelled: training rows that have a label.
    """
    found: list[Resolved] = []

    def say(key: str, value: Any, why: str) -> Any:
        found.append(Resolved(key, value, why))
        return value

    pretrained = is_pretrained(recipe.model)
    habit = _HABITS[recipe.task, pretrained]
    model, training, optimizer = recipe.model, recipe.training, recipe.training.optimizer
    text = recipe.task == "text-classification"
    shape = model_shape(model) if text and pretrained else Shape(None, None, False)

    changed: dict[str, Any] = {}
    if model.freeze == "auto":
        patterns, why = _freeze(shape, device)
        changed["freeze"] = say("model.freeze", patterns, why)
    if model.cache_frozen == "auto":
        cached = model.freeze == "auto" and bool(changed["freeze"])
        changed["cache_frozen"] = say(
            "model.cache_frozen",
            cached,
            "frozen layers say the same of a row each time" if cached else "auto froze no layer",
        )
    model = model.model_copy(update=changed)

    changed = {}
    if optimizer.name == "auto":
        scratch = recipe.task == "image-classification" and not pretrained
        changed["name"] = say("training.optimizer.name", "sgd" if scratch else "adamw", habit.kind)
    name = changed.get("name", optimizer.name)
    if optimizer.learning_rate == "auto":
        rate, why = _rate(name, shape, pretrained, habit)
        changed["learning_rate"] = say("training.optimizer.learning_rate", rate, why)
    if optimizer.weight_decay == "auto":
        decay = (5e-4 if name == "sgd" else 0.01) if has_weight_decay(name) else 0.0
        changed["weight_decay"] = say("training.optimizer.weight_decay", decay, name)
    optimizer = optimizer.model_copy(update=changed)

    changed = {"optimizer": optimizer}
    if training.batch_size == "auto":
        small = text and device.type == "cpu"
        size = say(
            "training.batch_size",
            _ON_A_CPU if small else Training().rows,
            f"{habit.kind} on {device.type}",
        )
        training = training.model_copy(update={"batch_size": size})
    a_step = training.rows * training.accumulation * processes
    if training.steps is None and training.epochs == "auto":
        steps, why = _steps(habit, labelled, a_step)
        changed["steps"] = say("training.steps", steps, why)
    training = training.model_copy(update=changed)
    meta = recipe.meta
    if meta.unroll == "auto":
        steps = training.steps or _passes(float(training.epochs), labelled, a_step)
        unroll = min(max(steps // _META_STEPS, 1), _MOST_UNROLLED)
        why = f"{steps:,} steps leave {steps // unroll:,} for the meta level"
        meta = meta.model_copy(update={"unroll": say("meta.unroll", unroll, why)})
    update = {"model": model, "training": training, "meta": meta}
    return recipe.model_copy(update=update), found


def _freeze(shape: Shape, device: torch.device) -> tuple[list[str], str]:
    if device.type != "cpu":
        return [], f"{device.type} trains the whole model"
    if not shape.stacked or shape.layers is None:
        return [], "the model is no pretrained BERT or RoBERTa"
    if shape.layers < _DEEP:
        return [], f"so few layers ({shape.layers}) are quick as they are"
    depth = math.floor(_FROZEN * shape.layers)
    patterns = ["*embeddings*", *(f"*encoder.layer.{i}.*" for i in range(depth))]
    return patterns, f"a CPU trains the upper {shape.layers - depth} of {shape.layers} layers"


def _rate(name: str, shape: Shape, pretrained: bool, habit: Habit) -> tuple[float, str]:
    if name == "sgd":
        return _WITH_SGD, "sgd"
    if not pretrained:
        return _FROM_SCRATCH, habit.kind
    if shape.width is None:
        return _UNKNOWN, f"{habit.kind}, whose width is not known"
    rate = _RATE * (_WIDTH / shape.width) ** 2
    rate = min(max(rate, _RATES[0]), _RATES[1])
    return float(f"{rate:.2g}"), f"the model is {shape.width} wide"


def _passes(epochs: float, labelled: int, a_step: int) -> int:
    return max(1, math.ceil(epochs * labelled / a_step))


def _steps(habit: Habit, labelled: int, a_step: int) -> tuple[int, str]:
    passes = _passes(habit.epochs, labelled, a_step)
    steps = min(max(passes, habit.fewest), MOST_STEPS)
    times = f"{steps * a_step / max(1, labelled):.1f}"
    if steps > passes:
        return steps, f"no fewer, which is {times} passes over {labelled:,} rows"
    if steps < passes:
        return steps, f"no more, which is {times} passes over {labelled:,} rows"
    return steps, f"{habit.epochs:g} passes over {labelled:,} rows"
