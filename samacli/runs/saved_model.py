"""A trained classifier as a run leaves it: its folder, and what the run's recipe says of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samacli.errors import SamaError
from samacli.recipe import Columns, Data, Recipe, Task, load_recipe
from samacli.store.output import RECIPE_FILE

# Of `data:`, what is true of rows from wherever they come.
_READING = (
    "minus_one",
    "quoting",
    "escape",
    "columns",
    "max_length",
    "image_root",
    "image_size",
    "shortest_edge",
    "normalize",
    "memory_limit_mb",
    "workers",
    "bad_images",
    "seed",
)


@dataclass(frozen=True)
class SavedModel:
    """folder: of `from_pretrained`. classes: by the model's own numbers. recipe: of the run that
    trained it, the default where there is none beside it."""

    folder: Path
    task: Task
    classes: list[str]
    recipe: Recipe


def find_model(path: Path) -> SavedModel:
    """The model at `path`: a run that holds one in `model/`, or its own directory.

    Raises:
        SamaError: there is none, or it is no classifier of texts or images.
    """
    folder = path / "model" if (path / "model").is_dir() else path
    task, classes = _task_and_classes(folder)
    beside = folder.parent / RECIPE_FILE
    recipe = load_recipe(str(beside)) if beside.is_file() else Recipe()
    return SavedModel(folder, task, classes, recipe)


def reading(data: Data, **source: Any) -> Data:
    """How `data` reads, encodes and holds rows, for those of another `source`: values of `Data`."""
    return Data(**{name: getattr(data, name) for name in _READING} | source)


def with_columns(
    columns: Columns, text: str | None, image: str | None, label: str | None
) -> Columns:
    """The recipe's columns, with those replaced that a command names.

    Who names the label column means it for the true one too.
    """
    given = {"text": text, "image": image, "label": label}
    update: dict[str, str | None] = {name: value for name, value in given.items() if value}
    if label is not None:
        update["true_label"] = None
    return columns.model_copy(update=update)


def _task_and_classes(folder: Path) -> tuple[Task, list[str]]:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SamaError(f"'{folder}' is no saved model: it has no config.json") from None
    except (OSError, ValueError) as error:
        raise SamaError(f"'{file}' cannot be read: {error}") from error
    architecture = next(iter(config.get("architectures") or []), "")
    names = config.get("id2label") or {}
    classes = [str(names[key]) for key in sorted(names, key=int)]
    if architecture.endswith("ForSequenceClassification"):
        return "text-classification", classes
    if architecture.endswith("ForImageClassification"):
        return "image-classification", classes
    raise SamaError(f"'{folder}' holds {architecture or 'no architecture'}, which is no classifier")
