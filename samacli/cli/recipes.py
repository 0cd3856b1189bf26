"""`sama recipes ls | show | cp`"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from samacli.cli.console import print_json, say
from samacli.cli.options import Json, home
from samacli.errors import SamaError
from samacli.recipe import built_in_recipes, dump_recipe, load_recipe, recipe_path
from samacli.recipe.load import recipe_text

app = typer.Typer(no_args_is_help=True, help="List, show and copy the built-in recipes.")
Name = Annotated[str, typer.Argument(help="A built-in recipe's name.")]


@app.command()
def ls(json: Json = False) -> None:
    """List the built-in recipes.

    Example: sama recipes ls
    """
    recipes = {name: load_recipe(name) for name in built_in_recipes()}
    if json:
        print_json(
            [
                {"name": name, "task": recipe.task, "description": recipe.description}
                for name, recipe in recipes.items()
            ]
        )
        return
    table = Table()
    for heading in ("recipe", "task", "what it is"):
        table.add_column(heading)
    for name, recipe in recipes.items():
        table.add_row(name, recipe.task, recipe.description)
    say(table)


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
