"""`sama evaluate`: a saved classifier on labelled data."""

from __future__ import annotations

from pathlib import Path

from samacli.data import decoding_workers, encode, load_split, make_loader
from samacli.models import load_model, load_processor
from samacli.progress import Progress, Silent
from samacli.recipe import Model
from samacli.runs.saved_model import find_model, reading, with_columns
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
    saved = find_model(model)
    task, classes, recipe = saved.task, saved.classes, saved.recipe
    config = reading(
        recipe.data,
        path=None,
        test=data,
        train=None,
        columns=with_columns(recipe.data.columns, text_column, image_column, label_column),
        normalize="auto",  # by the processor that was saved with the model
    )
    accelerator = make_accelerator(device, recipe.training.precision)
    settings = Model(name=str(saved.folder))
    processor = load_processor(settings, task)
    network = load_model(settings, task, classes).to(accelerator.device)
    split = load_split(config, task, classes, progress=progress)
    encoded = encode(
        split, config.columns, task, processor=processor, config=config, progress=progress
    )
    loader = make_loader(
        encoded,
        batch_size,
        shuffle=False,
        seed=0,
        num_workers=decoding_workers(encoded, config.workers),
        device=accelerator.device,
    )
    logits = predict(network, loader, len(encoded), accelerator, progress=progress)
    return compare(split.labels, logits.argmax(-1), classes)
