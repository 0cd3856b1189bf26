"""What a table compares: a YAML file, typed and closed to unknown keys like a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from samacli.errors import SamaError, nearest
from samacli.recipe.load import built_in, read_yaml, validate_as
from samacli.recipe.schema import Keep, Section

FOLDER = "tables"  # in the recipes' folder
NAME = r"^[A-Za-z0-9._-]+$"
BEST = "best"

Workflow = Literal["reweight", "prune"]
Precision = Literal["fp32", "bf16"]
Role = Literal["development", "reporting"]


class Setting(Section):
    """One column of the table: a recipe on one data set and one clean set."""

    name: str = Field(pattern=NAME)
    title: str
    group: str = Field(
        description="the data set: settings of a group differ in the clean set alone, so that a "
        "method which doesn't use it is run once for all of them"
    )
    recipe: str = Field(description="a built-in recipe's name or a YAML file")
    set: list[str] = Field([], description="KEY=VALUE overrides of the recipe")
    without: list[str] = Field([], description="methods that are not run in it")
    equal_time: bool = Field(
        True, description="false: not even if the table's `equal_time` says so"
    )
    about: str = Field("", description="Markdown above the setting's own table")


class Entry(Section):
    """One line of the table: a method, with overrides of its own."""

    name: str = Field(pattern=NAME, description="as it is shown")
    method: str = Field("", description="as `--baselines` knows it; default: the name")
    set: list[str] = Field([], description="KEY=VALUE overrides, after the setting's")
    keep: Keep | None = Field(
        None, description="of a method that prunes; default: each of the table's `keeps`, as a line"
    )

    @model_validator(mode="before")
    @classmethod
    def _method_is_the_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict) and "name" in value:
            value = {"method": value["name"], **value}
        return value

    @property
    def base(self) -> str:
        """The name without the keep."""
        return self.name if self.keep is None else self.name.removesuffix(f"-{self.keep:g}")

    def at(self, keep: float | None) -> Entry:
        """The same, keeping that much."""
        return self.model_copy(update={"name": kept(self.base, keep), "keep": keep})


class Draws(Section):
    """Fresh data for each seed."""

    seed: int = Field(
        ge=0,
        description="what the splits, the clean set, subsets and the noise of each of the table's "
        "seeds are drawn by, together with that seed and the table's role",
    )
    splits: bool = Field(
        True,
        description="pool the rows of all the splits that the recipe names and deal them out anew, "
        "each split as large as it was; false: they stay as they come, and what the recipe itself "
        "takes out of a split is drawn alone",
    )


class Goal(Section):
    """What the figures have to show: a lead of our method, or how long its scoring may take."""

    text: str = Field(description="Markdown")
    over: str | None = Field(
        None,
        description="whom our method has to lead, in every setting and at every keep: a method, or "
        "best: whichever other one that keeps as much has the highest mean there",
    )
    errors: float = Field(
        0.0, description="standard errors that the lead has to exceed; below 0: that it may lack"
    )
    labels: Literal["all", "clean", "wrong"] = Field(
        "all", description="only settings whose recipe makes no labels wrong, or some"
    )
    keep: Keep | None = Field(None, description="at this keep alone")
    scoring: float | None = Field(
        None, gt=0, description="in place of a lead: plain runs' time that scoring may take"
    )

    @model_validator(mode="after")
    def _of_one_kind(self) -> Goal:
        if (self.over is None) == (self.scoring is None):
            raise ValueError("a goal says whom to lead (over) or how long scoring may take")
        return self


class TableSpec(Section):
    """Settings × methods × seeds, and the words around their figures.

    Of a table of subsets (`workflow: prune`) a method that prunes is as many lines as `keeps`.
    """

    name: str = Field(pattern=NAME, description="of the files that are written")
    title: str
    about: str = Field("", description="Markdown below the title")
    remarks: str = Field("", description="Markdown at the end")
    made_by: str = Field("", description="Markdown: what makes the page; default: `sama table`")
    workflow: Workflow = "reweight"
    keeps: list[Keep] = Field([], description="how much a method that prunes keeps, one by one")
    ours: str = Field("sama", description="the method that each other is compared with")
    plain: str = Field("noisy", description="the method whose time is 1")
    settings: list[Setting] = Field(min_length=1)
    methods: list[Entry] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    goals: list[Goal] = Field([], description="what has to be shown, judged by the rows")
    draw_clean_sets: bool = Field(
        False,
        description="each seed draws its own clean set where data.meta_per_class takes a part of a "
        "split (data.meta_seed = seed), so that the spread tells of that choice too",
    )
    role: Role | None = Field(
        None,
        description="development: settings may be chosen by its figures, which are of validation "
        "rows (of the recipe's data.validation, or held out of the training split; its test split "
        "is not read). reporting: nothing is chosen by them. Default: not said",
    )
    draws: Draws | None = Field(
        None, description="each seed has splits, a clean set and noise of its own"
    )
    equal_time: bool = Field(
        False,
        description="every other method that trains is also trained for as long as ours took in "
        "this table with the same seed: its steps times how much longer ours took than it did",
    )
    precision: Precision | None = Field(
        None,
        description="what every run computes in, whatever its recipe says: rows of another "
        "precision count as outdated, so that runs of different machines compare",
    )
    jobs: int | None = Field(None, ge=1, description="runs at a time; default: see `sama table`")

    @field_validator("settings", "methods")
    @classmethod
    def _names_are_single(cls, found: list[Setting] | list[Entry]) -> list[Setting] | list[Entry]:
        names = [one.name for one in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"the name '{twice}' stands twice")
        return found

    @field_validator("seeds")
    @classmethod
    def _seeds_are_single(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError("seeds should be different whole numbers, 0 or above")
        return seeds

    @model_validator(mode="after")
    def _goals_are_over_a_method(self) -> TableSpec:
        known = {BEST} | {entry.base for entry in self.methods}
        for goal in self.goals:
            if goal.over is not None and goal.over not in known:
                raise ValueError(
                    f"a goal is over '{goal.over}', which is no method of the table"
                    f"{nearest(goal.over, known)}"
                )
        return self


def kept(name: str, keep: float | None) -> str:
    """The name of a method's line at a keep; None: it has none."""
    return name if keep is None else f"{name}-{keep:g}"


def among(found: Iterable[Any], name: str, sentence: str) -> Any:
    """The one of that name.

    Raises:
        SamaError: there is none; the sentence, the name, and what there is.
    """
    by_name = {one.name: one for one in found}
    if name not in by_name:
        hint = nearest(name, by_name) or f"; there are {', '.join(by_name)}"
        raise SamaError(f"{sentence} '{name}'{hint}")
    return by_name[name]


def built_in_tables() -> dict[str, Path]:
    """The names of the tables that come with samacli, sorted, each with its file."""
    return built_in(FOLDER)


def load_table(name: str) -> TableSpec:
    """A table by built-in name or by file.

    Raises:
        SamaError: there is none, or it says what a table can't say.
    """
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        known = built_in_tables()
        if name not in known:
            raise SamaError(
                f"there is no table '{name}'{nearest(name, known)} (built in: "
                f"{', '.join(known) or 'none'}; a table of your own ends in .yaml)"
            )
        path = known[name]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SamaError(f"the table '{path}' cannot be read: {error}") from error
    return validate_as(TableSpec, read_yaml(text, str(path), "table"), str(path), kind="table")
