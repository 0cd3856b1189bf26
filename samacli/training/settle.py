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
from samacli.recipe import Meta, Model, Optimizer, Recipe, Training
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
# Rows a step: where it was tried, on small sets, as good as 32 in as many steps.
_TEXTS_ON_A_CPU = 16
_META_STEPS, _MOST_UNROLLED = 100, 10


def settle(
    recipe: Recipe, labelled: int, device: torch.device, processes: int = 1
) -> tuple[Recipe, list[Resolved]]:
    """The recipe without these `auto`s, and what each of them came to.

    labelled: training rows that have a label.
    """
    rules = _Rules(recipe, labelled, device, processes)
    model, training = rules.model(), rules.training(rules.optimizer())
    settled = {"model": model, "training": training, "meta": rules.meta(training)}
    return recipe.model_copy(update=settled), rules.found


class _Rules:
    """found: what each `auto` came to, in the order in which they were settled."""

    def __init__(self, recipe: Recipe, labelled: int, device: torch.device, processes: int) -> None:
        self.recipe, self.labelled = recipe, labelled
        self.device, self.processes = device, processes
        pretrained = is_pretrained(recipe.model)
        self.text = recipe.task == "text-classification"
        self.habit = _HABITS[recipe.task, pretrained]
        self.pretrained = pretrained
        known = self.text and pretrained
        self.shape = model_shape(recipe.model) if known else Shape(None, None, False)
        self.found: list[Resolved] = []

    def _settle(self, key: str, value: Any, why: str) -> Any:
        self.found.append(Resolved(key, value, why))
        return value

    def model(self) -> Model:
        model = self.recipe.model
        changed: dict[str, Any] = {}
        if model.freeze == "auto":
            changed["freeze"] = self._settle("model.freeze", *self._freeze())
        if model.cache_frozen == "auto":
            cached = bool(changed.get("freeze"))
            why = "frozen layers say the same of a row each time"
            why = why if cached else "auto froze no layer"
            changed["cache_frozen"] = self._settle("model.cache_frozen", cached, why)
        return model.model_copy(update=changed)

    def optimizer(self) -> Optimizer:
        optimizer, place = self.recipe.training.optimizer, "training.optimizer"
        changed: dict[str, Any] = {}
        name = optimizer.name
        if name == "auto":
            name = "adamw" if self.text or self.pretrained else "sgd"
            changed["name"] = self._settle(f"{place}.name", name, self.habit.kind)
        if optimizer.learning_rate == "auto":
            rate, why = self._rate(name)
            changed["learning_rate"] = self._settle(f"{place}.learning_rate", rate, why)
        if optimizer.weight_decay == "auto":
            decay = (5e-4 if name == "sgd" else 0.01) if has_weight_decay(name) else 0.0
            changed["weight_decay"] = self._settle(f"{place}.weight_decay", decay, name)
        return optimizer.model_copy(update=changed)

    def training(self, optimizer: Optimizer) -> Training:
        training = self.recipe.training
        changed: dict[str, Any] = {"optimizer": optimizer}
        if training.batch_size == "auto":
            rows = _TEXTS_ON_A_CPU if self.text and self.device.type == "cpu" else training.rows
            why = f"{self.habit.kind} on {self.device.type}"
            changed["batch_size"] = self._settle("training.batch_size", rows, why)
        training = training.model_copy(update=changed)
        if training.steps is None and training.epochs == "auto":
            steps = self._settle("training.steps", *self._steps(training))
            training = training.model_copy(update={"steps": steps})
        return training

    def meta(self, training: Training) -> Meta:
        meta = self.recipe.meta
        if meta.unroll != "auto":
            return meta
        steps = training.steps or self._passes(float(training.epochs), training)
        unroll = min(max(steps // _META_STEPS, 1), _MOST_UNROLLED)
        why = f"{steps:,} steps leave {steps // unroll:,} for the meta level"
        return meta.model_copy(update={"unroll": self._settle("meta.unroll", unroll, why)})

    def _freeze(self) -> tuple[list[str], str]:
        layers = self.shape.layers
        if self.device.type != "cpu":
            return [], f"{self.device.type} trains the whole model"
        if not self.shape.stacked or layers is None:
            return [], "the model is no pretrained BERT or RoBERTa"
        if layers < _DEEP:
            return [], f"so few layers ({layers}) are quick as they are"
        depth = math.floor(_FROZEN * layers)
        patterns = ["*embeddings*", *(f"*encoder.layer.{i}.*" for i in range(depth))]
        return patterns, f"a CPU trains the upper {layers - depth} of {layers} layers"

    def _rate(self, name: str) -> tuple[float, str]:
        if name == "sgd":
            return _WITH_SGD, "sgd"
        if not self.pretrained:
            return _FROM_SCRATCH, self.habit.kind
        width = self.shape.width
        if width is None:
            return _UNKNOWN, f"{self.habit.kind}, whose width is not known"
        rate = min(max(_RATE * (_WIDTH / width) ** 2, _RATES[0]), _RATES[1])
        return float(f"{rate:.2g}"), f"the model is {width} wide"

    def _a_step(self, training: Training) -> int:
        """Rows of one step, of all processes."""
        return training.rows * training.accumulation * self.processes

    def _passes(self, epochs: float, training: Training) -> int:
        """Steps of so many passes over the labelled rows."""
        return max(1, math.ceil(epochs * self.labelled / self._a_step(training)))

    def _steps(self, training: Training) -> tuple[int, str]:
        passes = self._passes(self.habit.epochs, training)
        steps = min(max(passes, self.habit.fewest), MOST_STEPS)
        rows = f"{self.labelled:,} rows"
        if steps == passes:
            return steps, f"{self.habit.epochs:g} passes over {rows}"
        limit = "no fewer" if steps > passes else "no more"
        times = steps * self._a_step(training) / max(1, self.labelled)
        return steps, f"{limit}, which is {times:.1f} passes over {rows}"
