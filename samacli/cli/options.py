"""Options that several commands share, each said once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from samacli.errors import SamaError

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


def split_arguments(arguments: list[str] | None) -> tuple[str | None, list[str]]:
    """(recipe or None, KEY=VALUE overrides) from a command's arguments.

    Raises:
        SamaError: more than one recipe.
    """
    names = [a for a in arguments or [] if "=" not in a]
    if len(names) > 1:
        raise SamaError(
            f"'{names[1]}' is neither the recipe (that is '{names[0]}') nor KEY=VALUE; "
            "run one recipe at a time"
        )
    return (names[0] if names else None), [a for a in arguments or [] if "=" in a]


def data_values(
    *,
    train: str | None = None,
    meta: str | None = None,
    test: str | None = None,
    text_column: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    model: str | None = None,
) -> dict[str, Any]:
    """Recipe values for the options that were given."""
    values: dict[str, Any] = {
        "data.train": train,
        "data.meta": meta,
        "data.test": test,
        "data.columns.text": text_column,
        "data.columns.image": image_column,
        "data.columns.label": label_column,
        "model.name": model,
    }
    if image_column is not None:
        values["task"] = "image-classification"
    return {key: value for key, value in values.items() if value is not None}


def baseline_names(given: str | None, known: list[str]) -> list[str] | None:
    """`--baselines` as a list; None if it was not given. The recipe's validation checks names."""
    if given is None:
        return None
    if given == "none":
        return []
    if given == "all":
        return known
    return [name.strip() for name in given.split(",") if name.strip()]


def keeps(text: str) -> list[float]:
    """`--keep` as numbers: fractions up to 1, counts above.

    Raises:
        SamaError: it is none, or has something else among them.
    """
    try:
        keeps = [float(part) for part in text.split(",")]
    except ValueError:
        raise SamaError(
            f"--keep '{text}' is not a fraction such as 0.7, a count such as 5000, "
            "or several of them with commas"
        ) from None
    for keep in keeps:
        if not keep > 0 or (keep > 1 and keep % 1):  # infinity % 1 is NaN
            raise SamaError(
                f"--keep {keep:g} is neither a fraction (above 0, up to 1) nor a whole "
                "count of rows"
            )
    return keeps


def one_keep(text: str) -> float:
    """`--keep` of a command that keeps one selection.

    Raises:
        SamaError: as `keeps`, and for several.
    """
    found = keeps(text)
    if len(found) > 1:
        raise SamaError(f"--keep '{text}' names {len(found)} sizes; select one at a time")
    return found[0]


def settings(context: typer.Context) -> Globals:
    """The global options of this call."""
    found = context.find_object(Globals)
    assert found is not None
    return found
