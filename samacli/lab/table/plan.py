"""The cells of a table, each with its recipe and a digest of what in it concerns the method."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samacli.errors import SamaError, nearest
from samacli.lab.table import kind
from samacli.lab.table.description import Entry, Precision, Setting, Table, Workflow
from samacli.recipe import Recipe, load_recipe

DATA = "data"  # the folder that recipes look for local data in


@dataclass(frozen=True)
class Choice:
    """Which part of a table; empty: all. data: the folder that holds the data, instead of data/."""

    settings: Sequence[str] = ()
    methods: Sequence[str] = ()
    seeds: Sequence[int] = ()
    data: Path | None = None


@dataclass(frozen=True)
class Cell:
    """One method in one setting with one seed.

    recipe: what is run. concerning: what in it concerns the method. digest: of that. precision: of
    the rows that stand for it; None: any.
    """

    setting: Setting
    entry: Entry
    seed: int
    recipe: Recipe
    concerning: dict[str, Any]
    digest: str
    workflow: Workflow = "reweight"
    precision: Precision | None = None

    @property
    def method(self) -> kind.Method:
        """What the table knows of its method."""
        return kind.methods(self.workflow)[self.entry.method]

    @property
    def run(self) -> tuple[str, int, str]:
        """Cells of the same run share its row."""
        return self.entry.method, self.seed, self.digest

    @property
    def title(self) -> str:
        return f"{self.setting.name}, {self.entry.name}, seed {self.seed}"


def plan(table: Table, choice: Choice | None = None) -> list[Cell]:
    """The cells in the order of their runs: seed by seed, setting by setting.

    Raises:
        SamaError: an unknown method, setting or recipe, or a value that a recipe refuses.
    """
    choice = choice or Choice()
    workflow, draw = table.workflow, table.draw_clean_sets
    settings = [table.setting(name) for name in choice.settings] or table.settings
    entries = _entries(table, choice.methods)
    made = {}
    load = functools.cache(lambda recipe, overrides: load_recipe(recipe, list(overrides)))
    names = {entry.base for entry in table.methods}
    for setting in settings:
        for name in setting.without:
            if name not in names:
                raise SamaError(
                    f"table '{table.name}': setting '{setting.name}' is without '{name}', which is "
                    f"no method of the table{nearest(name, names)}"
                )
        for entry in entries:
            if entry.base in setting.without:
                continue
            recipe = load(setting.recipe, (*setting.set, *entry.set))
            if table.keeps:  # one scoring run serves all of them
                config = recipe.prune.model_copy(update={"keep": table.keeps})
                recipe = recipe.model_copy(update={"prune": config})
            concerning = kind.concerning(workflow, recipe, entry.method, entry.keep)
            if draw and concerning["data"]["meta_per_class"] is not None:
                concerning["data"]["meta_seed"] = "seed"
            made[setting.name, entry.name] = (
                _computed_in(table.precision, _with_data_in(recipe, choice.data)),
                concerning,
                kind.digest(concerning),
            )
    return [
        Cell(
            setting,
            entry,
            seed,
            _drawn(recipe, seed if draw else None),
            concerning,
            digested,
            workflow,
            table.precision,
        )
        for seed in choice.seeds or table.seeds
        for setting in settings
        for entry in entries
        if (setting.name, entry.name) in made
        for recipe, concerning, digested in [made[setting.name, entry.name]]
    ]


def _entries(table: Table, names: Sequence[str]) -> list[Entry]:
    """The lines of the table, or those named: a method at one keep ("el2n-0.7") or at all."""
    known = kind.methods(table.workflow)
    lines: list[Entry] = []
    for entry in table.methods:
        if entry.method not in known:
            raise SamaError(
                f"table '{table.name}': there is no method '{entry.method}'"
                f"{nearest(entry.method, known)} (there are {', '.join(known)})"
            )
        if entry.keep is not None or not kind.prunes(table.workflow, entry.method):
            lines.append(entry)
        elif table.keeps:
            lines.extend(entry.at(keep) for keep in table.keeps)
        else:
            raise SamaError(f"table '{table.name}': '{entry.name}' prunes; give keeps: [0.7, …]")
    for name in names:
        found = {one for line in lines for one in (line.base, line.name)}
        if name not in found:
            hint = nearest(name, found) or f"; there are {', '.join(line.name for line in lines)}"
            raise SamaError(f"--methods: the table '{table.name}' has no method '{name}'{hint}")
    return [line for line in lines if not names or line.name in names or line.base in names]


def _drawn(recipe: Recipe, seed: int | None) -> Recipe:
    """The recipe with a clean set of this seed, where the clean set is drawn."""
    if seed is None or recipe.data.meta_per_class is None:
        return recipe
    data = recipe.data.model_copy(update={"meta_seed": seed})
    return recipe.model_copy(update={"data": data})


def _computed_in(precision: Precision | None, recipe: Recipe) -> Recipe:
    """The recipe in the table's precision. Rows tell theirs, so that it is not in the digest."""
    if precision is None:
        return recipe
    training = recipe.training.model_copy(update={"precision": precision})
    return recipe.model_copy(update={"training": training})


def _with_data_in(recipe: Recipe, folder: Path | None) -> Recipe:
    path = recipe.data.path
    if folder is None or path is None or recipe.data.source in ("hub", "demo"):
        return recipe
    parts = Path(path).parts
    if parts[:1] != (DATA,):
        return recipe
    moved = recipe.data.model_copy(update={"path": str(folder.joinpath(*parts[1:]))})
    return recipe.model_copy(update={"data": moved})
