"""The cells of a table, each with its recipe and a digest of what in it concerns the method."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samacli.errors import SamaError, nearest
from samacli.recipe import Recipe, load_recipe
from samacli.workflows.methods import METHODS
from samacli.workflows.table.description import Entry, Setting, Table

DATA = "data"  # the folder that recipes look for local data in
# Of a recipe's top level, what changes no run: words, the seeds (a row has its own), another
# workflow's section, and the preset, whose values are spelled out beside it.
NOT_OF_A_RUN = {"description", "seed", "repeats", "prune", "preset"}


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

    recipe: what is run. concerning: what in it concerns the method. digest: of that.
    """

    setting: Setting
    entry: Entry
    seed: int
    recipe: Recipe
    concerning: dict[str, Any]
    digest: str

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
    settings = [table.setting(name) for name in choice.settings] or table.settings
    entries = [table.entry(name) for name in choice.methods] or table.methods
    for entry in entries:
        if entry.method not in METHODS:
            raise SamaError(
                f"table '{table.name}': there is no method '{entry.method}'"
                f"{nearest(entry.method, METHODS)} (there are {', '.join(METHODS)})"
            )
    made = {}
    for setting in settings:
        for entry in entries:
            recipe = load_recipe(setting.recipe, [*setting.set, *entry.set])
            concerning = _concerning(recipe, entry.method)
            if table.draw_clean_sets and concerning["data"]["meta_per_class"] is not None:
                concerning["data"]["meta_seed"] = "seed"
            made[setting.name, entry.name] = (
                _with_data_in(recipe, choice.data),
                concerning,
                digest(concerning),
            )
    draw = table.draw_clean_sets
    return [
        Cell(setting, entry, seed, _drawn(recipe, seed if draw else None), concerning, digested)
        for seed in choice.seeds or table.seeds
        for setting in settings
        for entry in entries
        for recipe, concerning, digested in [made[setting.name, entry.name]]
    ]


def _drawn(recipe: Recipe, seed: int | None) -> Recipe:
    """The recipe with a clean set of this seed, where the clean set is drawn."""
    if seed is None or recipe.data.meta_per_class is None:
        return recipe
    data = recipe.data.model_copy(update={"meta_seed": seed})
    return recipe.model_copy(update={"data": data})


def digest(concerning: dict[str, Any]) -> str:
    """Twelve hexadecimal digits."""
    text = json.dumps(concerning, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def learns_weights(method: str) -> bool:
    """Whether a method is of the SAMA family, which the sections meta and reweight are for."""
    return method.split("-")[0] == "sama"


def _concerning(recipe: Recipe, method: str) -> dict[str, Any]:
    concerning = recipe.model_dump(mode="json", exclude=NOT_OF_A_RUN)
    reweight = concerning["reweight"]
    del reweight["baselines"]
    rivals = reweight.pop("rivals", {})
    if not learns_weights(method):
        del concerning["meta"]
        concerning["reweight"] = {"rivals": rivals}
    data = concerning["data"]
    # Rows that are taken out of another split are lacking there, whoever uses the clean set.
    carved = data["meta"] in (data["train"], data["validation"], data["test"])
    if not METHODS[method].uses_clean and not carved:
        data["meta"] = data["meta_per_class"] = data["meta_seed"] = None
    return concerning


def _with_data_in(recipe: Recipe, folder: Path | None) -> Recipe:
    path = recipe.data.path
    if folder is None or path is None or recipe.data.source in ("hub", "demo"):
        return recipe
    parts = Path(path).parts
    if parts[:1] != (DATA,):
        return recipe
    moved = recipe.data.model_copy(update={"path": str(folder.joinpath(*parts[1:]))})
    return recipe.model_copy(update={"data": moved})
