"""Which run is next: seed by seed, and no setting's data read more often than need be."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from samacli.lab.table.plan import Cell


class Schedule:
    """Hands out cells to several slots; safe to use from their threads."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._left = list(cells)
        self._held: dict[int, str] = {}
        self._lock = threading.Lock()

    def next(self, slot: int) -> Cell | None:
        """The slot's next cell, or None at the end.

        Of the first seed that is not through: one of the setting whose data the slot holds, else
        of a setting that no other slot holds, else any.
        """
        with self._lock:
            if not self._left:
                self._held.pop(slot, None)
                return None
            seed = self._left[0].seed
            own = self._held.get(slot)
            others = {name for number, name in self._held.items() if number != slot}
            cell = min(
                (cell for cell in self._left if cell.seed == seed),
                key=lambda cell: (cell.setting.name != own, cell.setting.name in others),
            )
            self._left.remove(cell)
            self._held[slot] = cell.setting.name
            return cell

    def clear(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            self._left.clear()
