"""`sama evaluate`: a saved classifier on labelled data."""

from __future__ import annotations

import json
from pathlib import Path

from samacli.data import encode, load_split, make_loader
from samacli.errors import SamaError
from samacli.export.directory import RECIPE_FILE
from samacli.models import load_model, load_processor
from samacli.progress import Progress, Silent
from samacli.recipe import Columns, Data, Model, Recipe, Task, load_recipe
from samacli.training.metrics import Evaluation
from samacli.training.metrics import evaluate as compare
from samacli.training.predict import predict
from samacli.training.runtime import DeviceName, make_accelerator


def evaluate(
    model: Path,
    data: str,
    *,
    text_column: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    batch_size: int = 64,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Accuracy, macro-F1 and class scores of `model` (a directory, or the run that holds it).

    Columns and text length come from the run's `recipe.yaml` where there is one. The classes are
    the model's own, by name.

    Raises:
        SamaError: anything wrong with the model or the data, a label unknown to the model included.
    """
    progress = progress or Silent()
    folder = model / "model" if (model / "model").is_dir() else model
    task, classes = task_and_classes(folder)
    beside = folder.parent / RECIPE_FILE
    recipe = load_recipe(str(beside)) if beside.is_file() else Recipe()
    config = _data(recipe, data, text_column, image_column, label_column)
    accelerator = make_accelerator(device, recipe.training.precision)
    settings = Model(name=str(folder))
    processor = load_processor(settings, task)
    network = load_model(settings, task, classes).to(accelerator.device)
    split = load_split(config, task, classes, progress=progress)
    encoded = encode(
        split, config.columns, task, processor=processor, config=config, progress=progress
    )
    loader = make_loader(encoded, batch_size, shuffle=False, seed=0)
    logits = predict(network, loader, len(encoded), accelerator, progress=progress)
    return compare(split.labels, logits.argmax(-1), classes)


def task_and_classes(folder: Path) -> tuple[Task, list[str]]:
    """What a saved model is for, and its classes in order.

    Raises:
        SamaError: it is no classifier, or cannot be read.
    """
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


def _data(
    recipe: Recipe, data: str, text: str | None, image: str | None, label: str | None
) -> Data:
    given = {"text": text, "image": image, "label": label}
    update: dict[str, str | None] = {name: value for name, value in given.items() if value}
    if label is not None:
        update["true_label"] = None
    columns: Columns = recipe.data.columns.model_copy(update=update)
    is_folder = Path(data).is_dir()
    return Data(
        path=data if is_folder else None,
        test="test" if is_folder else data,
        train=None,
        columns=columns,
        max_length=recipe.data.max_length,
        image_root=recipe.data.image_root,
        image_size=recipe.data.image_size,
        seed=recipe.data.seed,
    )
