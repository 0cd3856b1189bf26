"""Which row stands for which cell: the last one made by a recipe that says the same."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

from samacli.lab.table.plan import Cell
from samacli.lab.table.row import Row
from samacli.lab.table.store import Store
from samacli.recipe import Recipe
from samacli.recipe.retired import without_retired


class Ledger:
    """The rows of a store, looked up by cell."""

    def __init__(self, store: Store, rows: Iterable[Row]) -> None:
        self._store = store
        self._rows: list[Row] = []
        for row in rows:
            self.add(row)
        self._recipe = functools.cache(store.recipe)

    def add(self, row: Row) -> None:
        """Take one more row into account."""
        self._rows.append(row)

    @property
    def rows(self) -> list[Row]:
        return list(self._rows)

    def row(self, cell: Cell) -> Row | None:
        """The cell's row, perhaps measured in another setting (see `Cell.run`), or None."""
        for row in reversed(self._rows):
            if cell.precision not in (None, row.precision):
                continue
            if (row.algorithm, row.seed) == (cell.entry.method, cell.seed) and self._same(
                row.digest, cell
            ):
                return row
        return None

    def outdated(self, cell: Cell) -> Row | None:
        """The cell's last row of an older recipe, where it has no other."""
        if self.row(cell) is not None:
            return None
        shared = not cell.method.uses_clean
        for row in reversed(self._rows):
            here = row.setting == cell.setting.name or (shared and row.group == cell.setting.group)
            if here and (row.method, row.seed) == (cell.entry.name, cell.seed):
                return row
        return None

    def _same(self, digest: str, cell: Cell) -> bool:
        if digest == cell.digest:
            return True
        then = self._recipe(digest)
        return then is not None and says_the_same(then, cell.concerning)


def says_the_same(then: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a recipe of an older schema says what a recipe says now.

    Keys that have come since count as having had their defaults, and those that have gone are
    left out where they said what is now the rule.
    """
    try:
        then = without_retired(then)
    except ValueError:
        return False
    old, new, defaults = dict(_leaves(then)), dict(_leaves(now)), dict(_leaves(_DEFAULTS))
    if any(key not in new or new[key] != value for key, value in old.items()):
        return False
    return all(key in defaults and defaults[key] == new[key] for key in new.keys() - old.keys())


def _leaves(content: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from _leaves(value, (*prefix, str(key)))
    else:
        yield prefix, content


_DEFAULTS = Recipe().model_dump(mode="json")
