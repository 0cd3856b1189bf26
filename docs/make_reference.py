"""docs/reference: the commands from Typer, the recipe's keys from its schema, the Python API.

Nothing here is written by hand, so nothing can be out of date: `make reference` writes the pages.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

FOLDER = Path(__file__).with_name("reference")


def commands() -> str:
    """Every command with its arguments and options."""
    import click
    import typer.main

    from samacli.__main__ import app

    parts = ["# Commands\n\nMade from the commands themselves by `make reference`."]

    def told(command: Any, name: str, parent: Any) -> None:
        context = click.Context(command, info_name=name, parent=parent)
        parts.append(f"\n## `{context.command_path}`\n\n{_prose(command.help)}")
        rows = []
        for parameter in command.params:
            if parameter.name == "help" or getattr(parameter, "hidden", False):
                continue
            if parameter.param_type_name == "argument":
                names = parameter.metavar or parameter.name.upper()
            else:
                names = ", ".join([*parameter.opts, *parameter.secondary_opts])
            rows.append(f"| {_code(names)} | {_cell(getattr(parameter, 'help', '') or '')} |")
        if rows:
            parts.append("\n| | |\n| --- | --- |\n" + "\n".join(rows))
        for child, inner in sorted(getattr(command, "commands", {}).items()):
            told(inner, child, context)

    told(typer.main.get_command(app), "sama", None)
    return "\n".join(parts) + "\n"


def recipe() -> str:
    """Every key of a recipe: its type, its default, what it means."""
    from samacli.recipe.schema import Recipe
    from samacli.registry import PRESETS

    parts = [
        "# Recipe keys\n\nMade from the schema by `make reference`. On the command line a key is "
        "written `training.epochs=2`."
    ]

    def told(model: type[BaseModel], prefix: str) -> None:
        inner: list[tuple[type[BaseModel], str]] = []
        rows = []
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                inner.append((kind, f"{prefix}{name}."))
                continue
            default = field.default
            if default is PydanticUndefined:
                default = field.default_factory() if field.default_factory else ""
            about = _cell(field.description or "")
            rows.append(
                f"| {_code(prefix + name)} | {_cell(_kind(kind))} | {_code(_value(default))} | "
                f"{about} |"
            )
        title = f"`{prefix.rstrip('.')}`" if prefix else "Top level"
        parts.append(f"\n## {title}\n\n{_prose(model.__doc__ if prefix else '')}")
        parts.append("\n| key | type | default | meaning |\n| --- | --- | --- | --- |")
        parts.append("\n".join(rows))
        for kind, deeper in inner:
            told(kind, deeper)

    told(Recipe, "")
    parts.append("\n## Presets\n\n| preset | sets |\n| --- | --- |")
    for name, values in PRESETS.items():
        said = ", ".join(f"`{key}={_value(value)}`" for key, value in values.items())
        parts.append(f"| `{name}` | {said} |")
    return "\n".join(parts) + "\n"


def python() -> str:
    """What `samacli` offers to programs, from its docstrings."""
    import samacli

    parts = ["# Python\n\nMade from the docstrings by `make reference`."]
    for name in (
        "reweight",
        "prune",
        "Result",
        "WeightedTrainer",
        "rows_to_train_on",
        "SamaError",
    ):
        thing = getattr(samacli, name)
        head = f"samacli.{name}"
        if inspect.isfunction(thing):
            given = ",\n".join(f"    {p}" for p in inspect.signature(thing).parameters.values())
            head = f"{head}(\n{given},\n)"
        doc = inspect.cleandoc(thing.__doc__ or "")
        parts.append(f"\n## `samacli.{name}`\n\n```python\n{head}\n```\n\n```text\n{doc}\n```")
    return "\n".join(parts) + "\n"


def _kind(kind: Any) -> str:
    """A type in words: "one of: a, b", "number", "list of text"."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _kind(get_args(kind)[0])
    if origin is Literal:
        return "one of: " + ", ".join(map(str, get_args(kind)))
    if origin in (Union, UnionType):
        return " or ".join(_kind(part) for part in get_args(kind) if part is not type(None))
    if origin is list:
        return f"list of {_kind(get_args(kind)[0])}"
    if origin is tuple:
        return "list of " + ", ".join(_kind(part) for part in get_args(kind))
    if origin is dict:
        return "mapping"
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def _value(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(value)


def _code(text: str) -> str:
    return f"`{_cell(text)}`" if text else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _prose(text: str | None) -> str:
    # Commands in a help text stand on lines of their own, indented in the source.
    text = inspect.cleandoc(text or "")
    return re.sub(r"(?m)^(Examples?:)?\s*(sama .+)$", r"\1\n\n    \2", text)


PAGES = {"commands.md": commands, "recipe.md": recipe, "python.md": python}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
