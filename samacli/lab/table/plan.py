"""The cells of a table, each with its recipe and a digest of what in it concerns the method."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from samacli.errors import SamaError, nearest
from samacli.lab.table.description import Entry, Precision, Setting, TableSpec, Workflow, among
from samacli.lab.table.draws import data_of_role, data_seed, splits_of
from samacli.recipe import Recipe, load_recipe
from samacli.recipe.load import result_relevant
from samacli.registry import METHODS, Method
from samacli.runs.prune.methods import PRUNING_METHODS, PruningMethod
from samacli.training.settle import settle

DATA = "data"  # the folder that recipes look for local data in
# Of a recipe's top level, what is not of a single run: a row has its own seed; a preset's values
# are spelled out beside it.
NOT_OF_A_RUN = {"seed", "repeats", "preset"}
# Of the section prune, what is not of a single run: a cell is one score, measured one way.
NOT_OF_A_SUBSET = {"scores", "baselines", "verify"}
# What concerns a selection by a score that a plain run makes.
OF_A_RIVAL = {"class_balanced", "score_runs"}


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
    the rows that stand for it; None: any. draw: of the data, as rows tell it; None: the recipe's.
    dealt: whether the splits are dealt out anew, by `data.seed`.
    pace: the cell of our method and the same method's own, whose rows say how many steps take as
    long as ours; None: the recipe's steps.
    """

    setting: Setting
    entry: Entry
    seed: int
    recipe: Recipe
    concerning: dict[str, Any]
    digest: str
    workflow: Workflow = "reweight"
    precision: Precision | None = None
    draw: str | None = None
    dealt: bool = False
    pace: tuple[Cell, Cell] | None = None

    @functools.cached_property
    def settled(self) -> dict[str, Any]:
        """What the recipe's `auto`s come to on a CPU, by dotted key, as far as no data tell it."""
        _, resolved = settle(self.recipe, 1, torch.device("cpu"))
        by_rows = ("training.steps", "meta.unroll")
        of_rows = by_rows if self.recipe.training.steps is None else ()
        return {one.key: one.value for one in resolved if one.key not in of_rows}

    @property
    def method(self) -> Method | PruningMethod:
        """What is known of its method."""
        return methods_of(self.workflow)[self.entry.method]

    @property
    def run(self) -> tuple[str, int, str]:
        """Cells of the same run share its row."""
        return self.entry.method, self.seed, self.digest

    @property
    def names(self) -> dict[str, Any]:
        """The fields of a row that say which run it is."""
        return {
            "setting": self.setting.name,
            "group": self.setting.group,
            "method": self.entry.name,
            "algorithm": self.entry.method,
            "seed": self.seed,
            "digest": self.digest,
            "draw": self.draw,
        }

    @property
    def title(self) -> str:
        return f"{self.setting.name}, {self.entry.name}, seed {self.seed}"


def plan(table: TableSpec, choice: Choice | None = None) -> list[Cell]:
    """The cells in the order of their runs: seed by seed, setting by setting.

    Raises:
        SamaError: an unknown method, setting or recipe, or a value that a recipe refuses.
    """
    choice = choice or Choice()
    workflow = table.workflow
    missing = f"--only: the table '{table.name}' has no setting"
    settings = [among(table.settings, name, missing) for name in choice.settings]
    entries = _entries(table, choice.methods)
    load = functools.cache(lambda recipe, overrides: load_recipe(recipe, list(overrides)))
    names = {entry.base for entry in table.methods}
    made: list[Cell] = []
    for setting in settings or table.settings:
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
                recipe = _with(recipe, "prune", keep=table.keeps)
            recipe = recipe.model_copy(update={"data": data_of_role(recipe.data, table.role)})
            content = concerning(workflow, recipe, entry.method, entry.keep)
            dealt = _say_what_is_drawn(content["data"], table, recipe)
            recipe = _with_data_in(recipe, choice.data)
            if table.precision is not None:  # rows tell theirs: it is not in the digest
                recipe = _with(recipe, "training", precision=table.precision)
            draw = None if table.draws is None else f"{table.role or 'no role'} {table.draws.seed}"
            own = digest(content)
            made.append(
                Cell(
                    setting, entry, 0, recipe, content, own, workflow, table.precision, draw, dealt
                )
            )
    return [cell for seed in choice.seeds or table.seeds for cell in _of_seed(table, made, seed)]


def _say_what_is_drawn(data: dict[str, Any], table: TableSpec, recipe: Recipe) -> bool:
    """In the part of a recipe that is the same for all seeds; whether splits are dealt out."""
    if table.draws is None:
        drawn = table.draw_clean_sets and recipe.data.meta_per_class is not None
        if drawn and data["meta_per_class"] is not None:
            data["meta_seed"] = "seed"
        return False
    dealt = table.draws.splits and len(splits_of(recipe.data)) > 1
    data["seed"] = f"drawn by {table.draws.seed}{', splits dealt out' if dealt else ''}"
    data["meta_seed"] = None
    return dealt


def _of_seed(table: TableSpec, cells: Sequence[Cell], seed: int) -> list[Cell]:
    """The cells with a seed's data, and those that are timed by others of them."""
    found = []
    for cell in cells:
        drawn: dict[str, int | None] = {}
        if table.draws is not None:
            drawn = {"seed": data_seed(table, seed), "meta_seed": None}
        elif table.draw_clean_sets and cell.recipe.data.meta_per_class is not None:
            drawn = {"meta_seed": seed}
        found.append(replace(cell, seed=seed, recipe=_with(cell.recipe, "data", **drawn)))
    return found + (_as_long_as_ours(table, found) if table.equal_time else [])


def _as_long_as_ours(table: TableSpec, cells: Sequence[Cell]) -> list[Cell]:
    """Every other method that trains, for as long as ours took with the same seed."""
    ours = {cell.setting.name: cell for cell in cells if cell.entry.name == table.ours}
    timed = []
    for cell in cells:
        pacer = ours.get(cell.setting.name)
        trains = getattr(cell.method, "steps", False) and cell.setting.equal_time
        if pacer is None or pacer is cell or not trains:
            continue
        training = {**cell.concerning["training"], "steps": f"as long as {pacer.digest}"}
        content = {**cell.concerning, "training": training}
        name = f"{cell.entry.name}@{table.ours}"
        entry = cell.entry.model_copy(update={"name": name})
        own = digest(content)
        timed.append(replace(cell, entry=entry, concerning=content, digest=own, pace=(pacer, cell)))
    return timed


def paced(cell: Cell, steps: int) -> Cell:
    """A timed cell, of so many steps."""
    return replace(cell, pace=None, recipe=_with(cell.recipe, "training", steps=max(1, steps)))


def _entries(table: TableSpec, names: Sequence[str]) -> list[Entry]:
    """The lines of the table, or those named: a method at one keep ("el2n-0.7") or at all."""
    known = methods_of(table.workflow)
    lines: list[Entry] = []
    for entry in table.methods:
        if entry.method not in known:
            raise SamaError(
                f"table '{table.name}': there is no method '{entry.method}'"
                f"{nearest(entry.method, known)} (there are {', '.join(known)})"
            )
        if entry.keep is not None or not getattr(known[entry.method], "prunes", False):
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


def _with(recipe: Recipe, section: str, **values: object) -> Recipe:
    changed = getattr(recipe, section).model_copy(update=values)
    return recipe.model_copy(update={section: changed})


def _with_data_in(recipe: Recipe, folder: Path | None) -> Recipe:
    path = recipe.data.path
    if folder is None or path is None or recipe.data.source in ("hub", "demo"):
        return recipe
    parts = Path(path).parts
    if parts[:1] != (DATA,):
        return recipe
    return _with(recipe, "data", path=str(folder.joinpath(*parts[1:])))


def methods_of(workflow: Workflow) -> Mapping[str, Method | PruningMethod]:
    """Those that a table of that kind may have, by name."""
    return METHODS if workflow == "reweight" else PRUNING_METHODS


def where(workflow: Workflow, method: str) -> str:
    """Where a method's code is, "module:function"."""
    if workflow == "reweight":
        return METHODS[method].where
    return "samacli.runs.prune.methods:"  # one piece: all of them choose and retrain alike


def learns_weights(method: str) -> bool:
    """Whether a method is of the SAMA family, which the sections meta and reweight are for."""
    known = METHODS.get(method)
    return method.split("-")[0] == "sama" if known is None else "meta" in known.reads


def concerning(
    workflow: Workflow, recipe: Recipe, method: str, keep: float | None = None
) -> dict[str, Any]:
    """What in a recipe concerns a run of a method, as it stands in a YAML file."""
    content = {
        key: value
        for key, value in result_relevant(recipe.model_dump(mode="json")).items()
        if key not in NOT_OF_A_RUN
    }
    ours = learns_weights(method)
    if workflow == "reweight":
        del content["prune"]
        del content["reweight"]["baselines"], content["reweight"]["measure_export"]
        reads = METHODS[method].reads
        for section in ("meta", "reweight"):
            values = content.pop(section).items()
            read = {k: v for k, v in values if section in reads or f"{section}.{k}" in reads}
            if read:
                content[section] = read
    else:
        if not ours:
            del content["meta"]
        del content["reweight"]
        _leave_pruning(content, PRUNING_METHODS[method], keep, ours)
    data = content["data"]
    # Rows that are taken out of another split are lacking there, whoever uses the clean set.
    carved = data["meta"] in (data["train"], data["validation"], data["test"])
    if not methods_of(workflow)[method].uses_clean and not carved:
        data["meta"] = data["meta_per_class"] = data["meta_seed"] = None
    return content


def _leave_pruning(
    content: dict[str, Any], method: PruningMethod, keep: float | None, ours: bool
) -> None:
    section = content.pop("prune")
    if method.scoring is None:
        return
    kept = section.keys() - NOT_OF_A_SUBSET if ours else OF_A_RIVAL
    config = {key: value for key, value in section.items() if key in kept}
    if keep is not None:
        config["keep"] = [keep]
    elif not ours:
        config.pop("class_balanced")
    content["prune"] = config


def digest(content: dict[str, Any]) -> str:
    """Twelve hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
