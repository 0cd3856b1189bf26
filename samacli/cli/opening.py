"""What the commands do alike: read what was typed, start processes, tell what came of it.

They read `context.params`, so that a shared option is declared in `options` and read here alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer
from rich.table import Table

import samacli
from samacli.cli.console import ConsoleProgress, QuietProgress, print_json, say
from samacli.cli.launch import in_processes, is_silent
from samacli.cli.options import settings
from samacli.errors import SamaError, counted
from samacli.recipe import Recipe, load_recipe
from samacli.recipe.schema import Tracker

if TYPE_CHECKING:
    from samacli.runs.run import How

# The recipe's key for each option that is one, by the parameter's name.
KEYS = {
    "train": "data.train",
    "meta": "data.meta",
    "test": "data.test",
    "text_column": "data.columns.text",
    "image_column": "data.columns.image",
    "label_column": "data.columns.label",
    "id_column": "data.columns.id",
    "model": "model.name",
    "epochs": "training.epochs",
    "lr": "training.optimizer.learning_rate",
    "batch_size": "training.batch_size",
    "max_length": "data.max_length",
    "preset": "preset",
    "correct": "reweight.correction",
}


def begin(context: typer.Context) -> None:
    """Refuse a push that cannot succeed; with --nproc, run the command there, and leave it here."""
    hub = context.params.get("push_to_hub")
    if hub is not None:
        from samacli.export.hub import check_hub

        check_hub(hub)
    output = Path(context.params["output"])
    if in_processes(settings(context).arguments, context.params["nproc"], output):
        raise typer.Exit


def recipe_values(context: typer.Context) -> dict[str, Any]:
    """Recipe values, by dotted key, for the options that were given."""
    # An option that may come again is an empty tuple where it does not come.
    given = {name: value for name, value in context.params.items() if value not in (None, ())}
    values = {key: given[name] for name, key in KEYS.items() if name in given}
    if "image_column" in given:
        values["task"] = "image-classification"
    if settings(context).seed is not None:
        values["seed"] = settings(context).seed
    if "track" in given:
        values["track"] = names(given["track"], get_args(Tracker))
    return values


def open_recipe(context: typer.Context, *, default: str, **sections: dict[str, Any]) -> Recipe:
    """The recipe that was named, with its overrides and options; `default` where no data are.

    sections: what the command's own options say, `prune={"keep": [0.7]}`; None is not given.

    Raises:
        SamaError: more than one recipe, or anything wrong with it.
    """
    name, overrides = split_arguments(context.params["recipe"])
    config = context.params.get("config")
    if name is not None and config is not None:
        raise SamaError(f"--config '{config}' and '{name}' are two recipes; run one at a time")
    name = config if name is None else name
    values = recipe_values(context)
    for section, own in sections.items():
        values |= {f"{section}.{key}": value for key, value in own.items() if value is not None}
    if name is None and "data.train" not in values:
        name = default if not any(given.startswith("data.") for given in overrides) else None
    return load_recipe(name, overrides, values, note=progress(context).note)


def how(context: typer.Context) -> How:
    """How the run is to be opened."""
    return {
        "overwrite": context.params["overwrite"],
        "resume": context.params["resume"],
        "device": settings(context).device.value,
        "progress": progress(context),
    }


def progress(context: typer.Context) -> ConsoleProgress:
    arguments = settings(context).arguments
    kind = QuietProgress if settings(context).quiet else ConsoleProgress
    return kind(lambda message: by_option(message, arguments))


def tell(
    context: typer.Context, result: dict[str, Any], *parts: Table | str | None, task: str = ""
) -> None:
    """Print the result, as JSON if so asked for and else part by part; push it if so asked for.

    result: with the run's directory as "output", where there is one. task: of its model.
    """
    json: bool = context.params["json"]
    if not json:
        say(*parts)
    hub = None if is_silent() else context.params.get("push_to_hub")
    if hub is not None:
        from samacli.export.hub import push_run

        pushed = push_run(result["output"], hub, task=task, version=samacli.__version__)
        if not json:
            say(f"pushed, private: {', '.join(pushed)}")
        result = {**result, "pushed": pushed}
    if json:
        print_json(result)


def by_option(message: str, arguments: Sequence[str]) -> str:
    """The message with a recipe's key named by its option, to who typed such options.

    Not where the option is named already, and not in advice to write KEY=VALUE.
    """
    dotted = {name: key for name, key in KEYS.items() if "." in key}
    options = {key: f"--{name.replace('_', '-')}" for name, key in dotted.items()}
    typed = {argument.partition("=")[0] for argument in arguments}
    if not typed & set(options.values()):
        return message
    for key, option in options.items():
        if option not in message:
            message = re.sub(rf"(?<![\w.]){re.escape(key)}(?![\w=]|\.\w)", option, message)
    return message


def tell_plan(context: typer.Context, command: str, recipe: Recipe) -> None:
    """`--dry-run`: print what the command would do."""
    from samacli.cli.tables import auto_table, class_rows_table, trainings_table
    from samacli.runs.plan import plan

    found = plan(
        command,
        recipe,
        Path(context.params["output"]),
        overwrite=context.params["overwrite"],
        device=settings(context).device.value,
        progress=progress(context),
    )
    keeps = [f"{keep} ({counted(rows, 'row')})" for keep, rows in found.keeps.items()]
    processes = f" in each of {found.processes} processes" if found.processes > 1 else ""
    often = "every step" if found.unroll == 1 else f"every {found.unroll} steps"
    if context.params["json"]:
        print_json(found.as_dict())
        return
    say(
        class_rows_table({"train": found.classes}),
        trainings_table(found.trainings, found.steps_of),
        auto_table(found.auto),
        f"keep: {', '.join(keeps)}" if keeps else None,
        f"a step: {counted(found.batch_size, 'training row')}{processes}; {found.steps:,} steps "
        "are "
        f"{found.epochs:.1f} epochs; SAMA takes a meta step of {found.meta_batch_size:,} rows "
        f"{often}",
        f"takes {found.takes}",
        f"model {found.model} on {found.device}, seeds {', '.join(map(str, found.seeds))}, to "
        f"{found.output}",
        "nothing was trained or written (--dry-run)",
    )


def split_arguments(arguments: list[str] | None) -> tuple[str | None, list[str]]:
    """(recipe or None, KEY=VALUE overrides) from a command's arguments.

    Raises:
        SamaError: more than one recipe.
    """
    found = [a for a in arguments or [] if "=" not in a]
    if len(found) > 1:
        raise SamaError(
            f"'{found[1]}' is neither the recipe (that is '{found[0]}') nor KEY=VALUE; "
            "run one recipe at a time"
        )
    return (found[0] if found else None), [a for a in arguments or [] if "=" in a]


def names(given: str | None, known: tuple[str, ...]) -> list[str] | None:
    """Names with commas as a list, "none" and "all" too; None if not given. Not checked here."""
    if given is None:
        return None
    if given in ("none", "all"):
        return list(known) if given == "all" else []
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
