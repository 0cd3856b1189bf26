"""`sama recipes ls | show | cp`"""

from __future__ import annotations

import itertools
import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from samacli.cli.console import print_json, say
from samacli.cli.options import Json, home
from samacli.cli.tables import compact_table
from samacli.errors import SamaError
from samacli.recipe import dump_recipe, load_recipe, recipe_path
from samacli.recipe.listing import Listed, list_recipes
from samacli.recipe.load import recipe_text

app = typer.Typer(no_args_is_help=True, help="List, show and copy the built-in recipes.")
Name = Annotated[str, typer.Argument(help="A built-in recipe's name.")]


class Task(str, Enum):
    reweight = "reweight"
    prune = "prune"
    text_classification = "text-classification"
    image_classification = "image-classification"


class Modality(str, Enum):
    text = "text"
    image = "image"


@app.command()
def ls(
    task: Annotated[
        Task | None,
        typer.Option("--task", help="Only those for it: a command, or the recipe's own task."),
    ] = None,
    modality: Annotated[
        Modality | None, typer.Option("--modality", help="Only those of texts, or of images.")
    ] = None,
    json: Json = False,
) -> None:
    """List recipes: demos, then yours (here and in recipes/), then the other built-in ones.

    Examples:

        sama recipes ls

        sama recipes ls --task prune --modality image
    """
    found = [
        one
        for one in list_recipes()
        if (task is None or task.value in (one.command, one.task))
        and (modality is None or modality.value == one.modality)
    ]
    if json:
        print_json([one.as_dict() for one in found])
        return
    for title, group in itertools.groupby(found, key=_heading):
        table = compact_table(title)
        table.add_column("recipe", no_wrap=True)
        table.add_column("what it is", ratio=3, overflow="fold")
        table.add_column("needs", ratio=2, overflow="fold")
        table.expand = True
        for one in group:
            what = one.description if one.problem is None else f"no recipe: {one.problem}"
            needs = dict.fromkeys("the hub" if n.startswith("hub:") else n for n in one.needs)
            table.add_row(one.name, what, ", ".join(needs) or "nothing more")
        say(table)
    say(
        "run one: sama reweight NAME, sama prune NAME; look: sama recipes show NAME"
        if found
        else "no recipe is like that"
    )


def _heading(one: Listed) -> str:
    if one.group == "built-in":
        return f"{one.command}, {one.modality}s"
    return {"demo": "demos", "yours": "yours"}[one.group]


@app.command()
def show(
    name: Name,
    resolved: Annotated[
        bool,
        typer.Option("--resolved", help="Every value, with what it extends and its preset."),
    ] = False,
) -> None:
    """Print a recipe.

    Example: sama recipes show demo-text
    """
    text = recipe_text(recipe_path(name))
    typer.echo(dump_recipe(load_recipe(name)) if resolved else text, nl=False)


@app.command()
def cp(
    name: Name,
    path: Annotated[Path, typer.Argument(help="The new file, or a directory.", callback=home)],
) -> None:
    """Copy a recipe to edit; `sama reweight PATH` runs it.

    Example: sama recipes cp demo-text mine.yaml
    """
    target = path / f"{name}.yaml" if path.is_dir() else path
    text = recipe_text(recipe_path(name))
    try:
        # Mode x: an existing recipe, perhaps edited for hours, is never overwritten.
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SamaError(f"'{target}' exists; name another file, or remove it first") from None
    except OSError as error:
        raise SamaError(f"cannot write '{target}': {os.strerror(error.errno or 0)}") from error
    say(f"{target} written; run it with: sama reweight {target}")
