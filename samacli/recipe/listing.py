"""Recipes to choose from: the demos, the user's own, all others; and what each of them needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from samacli.errors import SamaError
from samacli.recipe.load import (
    EXTENDS,
    built_in_recipes,
    flattened,
    load_recipe,
    read_yaml,
    recipe_layers,
    recipe_text,
)
from samacli.recipe.schema import Recipe

Group = Literal["demo", "yours", "built-in"]
Command = Literal["reweight", "prune"]
Modality = Literal["text", "image"]

FROM_SCRATCH = re.compile(r"resnet\d+-(cifar|small)")
_DEMO_DATA = {
    "bbc-news": "extra demo",
    "digits": "",
    "fashion-mnist": "Debian's dataset-fashion-mnist",
}


@dataclass(frozen=True)
class Listed:
    """name: as a command takes it, a file's path for one's own. command: what it is for.

    needs: data, extra, model and machine, as far as they do not come with samacli. problem: of a
    file of one's own that is no valid recipe.
    """

    name: str
    group: Group
    command: Command
    modality: Modality
    task: str
    description: str
    needs: list[str]
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def list_recipes(folder: Path = Path()) -> list[Listed]:
    """Demos first, then those in `folder` and its `recipes/`, then the others that are built in."""
    built_in = [_listed(name, path) for name, path in built_in_recipes().items()]
    own = [one for path in _own_files(folder) if (one := _own(path)) is not None]
    demos = [one for one in built_in if one.group == "demo"]
    others = [one for one in built_in if one.group != "demo"]
    others.sort(key=lambda one: (one.command == "prune", one.modality == "image", one.name))
    return [*demos, *own, *others]


def _own_files(folder: Path) -> Iterator[Path]:
    known = {path.resolve() for path in built_in_recipes().values()}
    for place in (folder, folder / "recipes"):
        for path in sorted([*place.glob("*.yaml"), *place.glob("*.yml")]):
            if path.resolve() not in known:
                yield path


def _own(path: Path) -> Listed | None:
    """None for YAML that is something else than a recipe."""
    try:
        content = read_yaml(recipe_text(path), str(path))
    except SamaError:
        return None
    if not ({*Recipe.model_fields, EXTENDS} & set(content)):
        return None
    try:
        return _listed(str(path), path, group="yours")
    except SamaError as error:
        about = str(content.get("description") or "")
        return Listed(str(path), "yours", "reweight", "text", "", about, [], str(error))


def _listed(name: str, path: Path, group: Group | None = None) -> Listed:
    recipe = load_recipe(name)
    said = {key for _, layer in recipe_layers(path) for key in flattened(layer)}
    if group is None:
        group = "demo" if name.startswith("demo-") else "built-in"
    return Listed(
        name,
        group,
        "prune" if any(key.startswith("prune.") for key in said) else "reweight",
        "image" if recipe.task == "image-classification" else "text",
        recipe.task,
        recipe.description,
        needs_of(recipe),
    )


def needs_of(recipe: Recipe) -> list[str]:
    """What a recipe takes that does not come with samacli."""
    data, model = recipe.data, recipe.model.name
    where = data.path or data.train or ""
    if data.source == "demo":
        found = [_DEMO_DATA.get(where, "")]
    else:
        found = [f"hub: {where}" if data.source == "hub" else where]
    if model == "minilm":
        found.append("extra demo")
    elif FROM_SCRATCH.fullmatch(model) is None:
        found.append(model if Path(model).expanduser().is_dir() else f"hub: {model}")
    if re.search(r"\bGPUs?\b", recipe.description):
        found.append("GPU")
    return [need for need in dict.fromkeys(found) if need]
