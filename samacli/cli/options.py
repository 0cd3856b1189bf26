"""Options that several commands share, each said once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

DATA = "Data (instead of a recipe, or to override it)"
MODEL = "Model and training"


class DeviceChoice(str, Enum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


@dataclass
class Globals:
    """What stands before the command: `sama --quiet --seed 3 reweight`; and all of the line."""

    arguments: Sequence[str] = ()
    debug: bool = False
    quiet: bool = False
    seed: int | None = None
    device: DeviceChoice = DeviceChoice.auto


Output = Annotated[
    Path, typer.Option("--output", "-o", help="Directory for the results.", show_default=False)
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace a finished or unfinished run at the output."),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on with the unfinished run at the output; without one, start at the beginning.",
    ),
]
RecipeAndOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RECIPE] [KEY=VALUE …]",
        help="A built-in recipe's name or a YAML file, then values that replace its own "
        "(dotted keys, such as training.epochs=2).",
        show_default=False,
    ),
]
Train = Annotated[
    str | None,
    typer.Option("--train", help="Training file or split (data.train).", rich_help_panel=DATA),
]
MetaSet = Annotated[
    str | None,
    typer.Option(
        "--meta",
        help="Small clean file or split that the weights are learnt from (data.meta).",
        rich_help_panel=DATA,
    ),
]
Test = Annotated[
    str | None,
    typer.Option(
        "--test", help="Test file or split, to measure with (data.test).", rich_help_panel=DATA
    ),
]
TextColumn = Annotated[
    str | None,
    typer.Option("--text-column", help="Column with the text.", rich_help_panel=DATA),
]
ImageColumn = Annotated[
    str | None,
    typer.Option("--image-column", help="Column with the image.", rich_help_panel=DATA),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label-column", help="Column with the given label.", rich_help_panel=DATA),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", help="Hub name or path of the model (model.name).", rich_help_panel=MODEL
    ),
]
Epochs = Annotated[
    float | None,
    typer.Option(
        "--epochs",
        help="Passes over the training data, in place of the recipe's steps (training.epochs).",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--lr",
        help="Learning rate (training.optimizer.learning_rate).",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        help="Examples a step, in each process (training.batch_size).",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        "--max-length",
        help="Tokens of a text, at most; the rest is cut off (data.max_length).",
        show_default=False,
        rich_help_panel=MODEL,
    ),
]
Baselines = Annotated[
    str | None,
    typer.Option(
        "--baselines",
        help="What is run beside sama: none, all, or names with commas.",
        rich_help_panel=MODEL,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the results as JSON, in place of tables.")
]
Processes = Annotated[
    int,
    typer.Option(
        "--nproc",
        min=1,
        help="Train in so many processes on this machine, data-parallel (torchrun).",
        rich_help_panel=MODEL,
    ),
]
Track = Annotated[
    str | None,
    typer.Option(
        "--track",
        help="Tell losses and accuracies to trackers: tensorboard, trackio, wandb, or several with "
        "commas (track).",
        rich_help_panel=MODEL,
    ),
]
PushToHub = Annotated[
    str | None,
    typer.Option(
        "--push-to-hub",
        metavar="OWNER/NAME",
        help="Then upload dataset and scores to this private repository of the Hugging Face hub, "
        "and the model to OWNER/NAME-model; the token is HF_TOKEN.",
    ),
]


def settings(context: typer.Context) -> Globals:
    """The global options of this call."""
    found = context.find_object(Globals)
    assert found is not None
    return found
