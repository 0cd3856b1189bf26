"""Options that several commands share, each said once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from samacli.recipe.paths import local_path

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


def home(parameter: typer.CallbackParam, given: Path | list[Path] | None) -> Any:
    """A path, or several, with `~` as the home directory: a shell leaves it in "--output=~/x"."""
    option = parameter.opts[0] if parameter.opts[0].startswith("-") else str(parameter.metavar)
    if isinstance(given, list | tuple):
        return [local_path(path, option) for path in given]
    return None if given is None else local_path(given, option)


Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        help="Directory for the results.",
        show_default=False,
        callback=home,
    ),
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


Config = Annotated[
    str | None,
    typer.Option(
        "--config", metavar="FILE", help="The recipe, as if it stood first.", show_default=False
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Read the data and load the model, say what would be done, and stop."
    ),
]


def _about(panel: str, flag: str, help_: str) -> OptionInfo:
    """An option that need not be given, in a panel of its own."""
    option: OptionInfo = typer.Option(flag, help=help_, rich_help_panel=panel, show_default=False)
    return option


Train = Annotated[str | None, _about(DATA, "--train", "Training file or split (data.train).")]
MetaSet = Annotated[
    list[str] | None,
    _about(
        DATA,
        "--meta",
        "Small clean file or split that the weights are learnt from (data.meta); again for another "
        "beside it.",
    ),
]
Test = Annotated[
    str | None, _about(DATA, "--test", "Test file or split, to measure with (data.test).")
]
TextColumn = Annotated[str | None, _about(DATA, "--text-column", "Column with the text.")]
ImageColumn = Annotated[str | None, _about(DATA, "--image-column", "Column with the image.")]
IdColumn = Annotated[
    str | None,
    _about(DATA, "--id-column", "Column with a name of each row, which goes into the results."),
]
LabelColumn = Annotated[str | None, _about(DATA, "--label-column", "Column with the given label.")]
ModelName = Annotated[
    str | None, _about(MODEL, "--model", "Hub name or path of the model (model.name).")
]
Epochs = Annotated[
    float | None,
    _about(
        MODEL,
        "--epochs",
        "Passes over the training data, in place of the recipe's steps (training.epochs).",
    ),
]
LearningRate = Annotated[
    float | None, _about(MODEL, "--lr", "Learning rate (training.optimizer.learning_rate).")
]
BatchSize = Annotated[
    int | None,
    _about(MODEL, "--batch-size", "Examples a step, in each process (training.batch_size)."),
]
MaxLength = Annotated[
    int | None,
    _about(
        MODEL, "--max-length", "Tokens of a text, at most; the rest is cut off (data.max_length)."
    ),
]
Baselines = Annotated[
    str | None,
    _about(MODEL, "--baselines", "What is run beside sama: none, all, or names with commas."),
]
Track = Annotated[
    str | None,
    _about(
        MODEL,
        "--track",
        "Tell losses and accuracies to trackers: tensorboard, trackio, wandb, or several with "
        "commas (track).",
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
PushToHub = Annotated[
    str | None,
    typer.Option(
        "--push-to-hub",
        metavar="OWNER/NAME",
        help="Then upload dataset, clean rows and scores to this private repository of the Hugging "
        "Face hub, and the model to OWNER/NAME-model; the token is HF_TOKEN.",
    ),
]


def settings(context: typer.Context) -> Globals:
    """The global options of this call."""
    found = context.find_object(Globals)
    assert found is not None
    return found
