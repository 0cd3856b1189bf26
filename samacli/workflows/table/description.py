"""What a table compares: a YAML file, typed and closed to unknown keys like a recipe."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from samacli.errors import SamaError, nearest
from samacli.recipe.load import built_in, read_yaml, validate_as
from samacli.recipe.schema import Section

FOLDER = "tables"  # in the recipes' folder


class Setting(Section):
    """One column of the table: a recipe on one data set and one clean set."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    title: str
    group: str = Field(
        description="the data set: settings of a group differ in the clean set alone, so that a "
        "method which doesn't use it is run once for all of them"
    )
    recipe: str = Field(description="a built-in recipe's name or a YAML file")
    set: list[str] = Field([], description="KEY=VALUE overrides of the recipe")
    about: str = Field("", description="Markdown above the setting's own table")


class Entry(Section):
    """One line of the table: a method, with overrides of its own."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$", description="as it is shown")
    method: str = Field("", description="as `--baselines` knows it; default: the name")
    set: list[str] = Field([], description="KEY=VALUE overrides, after the setting's")

    @model_validator(mode="before")
    @classmethod
    def _method_is_the_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict) and "name" in value:
            value = {"method": value["name"], **value}
        return value


class Table(Section):
    """Settings × methods × seeds, and the words around their figures."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$", description="of the files that are written")
    title: str
    about: str = Field("", description="Markdown below the title")
    remarks: str = Field("", description="Markdown at the end")
    ours: str = Field("sama", description="the method that each other is compared with")
    plain: str = Field("noisy", description="the method whose time is 1")
    settings: list[Setting] = Field(min_length=1)
    methods: list[Entry] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    draw_clean_sets: bool = Field(
        False,
        description="each seed draws its own clean set where data.meta_per_class takes a part of a "
        "split (data.meta_seed = seed), so that the spread tells of that choice too",
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

    def setting(self, name: str) -> Setting:
        """The setting of that name.

        Raises:
            SamaError: there is none.
        """
        return _named(name, self.settings, f"--only: the table '{self.name}' has no setting")

    def entry(self, name: str) -> Entry:
        """The method of that name, as it is shown.

        Raises:
            SamaError: there is none.
        """
        return _named(name, self.methods, f"--methods: the table '{self.name}' has no method")


def _named(name: str, found: Iterable[Any], sentence: str) -> Any:
    by_name = {one.name: one for one in found}
    if name not in by_name:
        hint = nearest(name, by_name) or f"; there are {', '.join(by_name)}"
        raise SamaError(f"{sentence} '{name}'{hint}")
    return by_name[name]


def built_in_tables() -> dict[str, Path]:
    """The names of the tables that come with samacli, sorted, each with its file."""
    return built_in(FOLDER)


def load_table(name: str) -> Table:
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
    return validate_as(Table, read_yaml(text, str(path), "table"), str(path), kind="table")
