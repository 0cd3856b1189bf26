"""Rows summed up over seeds: what the page, the sheet and the picture show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from samacli.lab.table.description import Entry, Setting, Table
from samacli.lab.table.kind import Method
from samacli.lab.table.ledger import Ledger
from samacli.lab.table.plan import Cell
from samacli.lab.table.row import Row


@dataclass(frozen=True)
class Mean:
    """Over `count` values; spread: sample standard deviation, None for one value."""

    mean: float
    spread: float | None
    count: int

    @property
    def error(self) -> float | None:
        """Standard error of the mean."""
        return None if self.spread is None else self.spread / math.sqrt(self.count)

    @staticmethod
    def of(values: Sequence[float | None]) -> Mean | None:
        """None where there are no values."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        spread = statistics.stdev(known) if len(known) > 1 else None
        return Mean(statistics.fmean(known), spread, len(known))


@dataclass(frozen=True)
class Line:
    """One method in one setting. rows: by seed. lead: accuracy of ours minus this one's, over
    the seeds that both have. time: training seconds over the plain method's with the same seed on
    the same machine with as many threads and jobs."""

    entry: Entry
    rows: dict[int, Row]
    lead: Mean | None
    time: Mean | None
    method: Method

    @property
    def uses_clean(self) -> bool:
        return self.method.uses_clean

    @property
    def accuracy(self) -> Mean | None:
        return Mean.of([row.accuracy for row in self.rows.values()])

    @property
    def macro_f1(self) -> Mean | None:
        return Mean.of([row.macro_f1 for row in self.rows.values()])

    @property
    def lowest_recall(self) -> Mean | None:
        """Of the class that is found least, which may be another one with another seed."""
        return Mean.of([min(row.recall.values()) for row in self.rows.values() if row.recall])

    def noise(self, measure: str) -> Mean | None:
        """measure: average_precision, auroc or noise_rate."""
        return Mean.of([row.noise[measure] for row in self.rows.values() if row.noise])


@dataclass(frozen=True)
class Block:
    """One setting. cells: one a method, for what the recipe says; rows: those that are there."""

    setting: Setting
    cells: list[Cell]
    lines: list[Line]

    @property
    def rows(self) -> list[Row]:
        return [row for line in self.lines for row in line.rows.values()]

    def line(self, name: str) -> Line | None:
        return next((line for line in self.lines if line.entry.name == name), None)

    def is_best(self, line: Line, measure: str) -> bool:
        """Whether none that keeps as much has a higher mean; measure: as `value` takes it."""
        mean = value(line, measure)
        rivals = [one for one in self.lines if one.entry.keep == line.entry.keep]
        means = [other.mean for one in rivals if (other := value(one, measure)) is not None]
        return mean is not None and mean.mean >= max(means) - 1e-9  # the same mean, summed up twice


def value(line: Line, measure: str) -> Mean | None:
    """A line's measure by name."""
    if measure in ("accuracy", "macro_f1", "lowest_recall"):
        found: Mean | None = getattr(line, measure)
        return found
    return line.noise(measure)


def blocks(table: Table, cells: Sequence[Cell], ledger: Ledger) -> list[Block]:
    """The settings of the cells, each with its methods, in the table's order."""
    made = []
    for setting in dict.fromkeys(cell.setting.name for cell in cells):
        own = [cell for cell in cells if cell.setting.name == setting]
        rows: dict[str, dict[int, Row]] = {}
        for cell in own:
            found = rows.setdefault(cell.entry.name, {})
            row = ledger.row(cell)
            if row is not None:
                found[cell.seed] = row
        first = {cell.entry.name: cell for cell in reversed(own)}
        lines = [
            Line(
                entry=first[name].entry,
                rows=rows[name],
                lead=None if name == ours else lead_over(rows.get(ours, {}), rows[name]),
                time=_time(rows[name], rows.get(table.plain, {})),
                method=first[name].method,
            )
            for name in rows
            for ours in [table.ours_beside(first[name].entry)]
        ]
        made.append(Block(own[0].setting, [first[name] for name in rows], lines))
    return made


def lead_over(ours: Mapping[int, Row], other: Mapping[int, Row]) -> Mean | None:
    """Accuracy of ours minus the other's, over the seeds that both have."""
    return Mean.of(
        [
            a - b
            for seed in ours
            if seed in other
            and (a := ours[seed].accuracy) is not None
            and (b := other[seed].accuracy) is not None
        ]
    )


def _time(rows: dict[int, Row], plain: dict[int, Row]) -> Mean | None:
    return Mean.of(
        [
            rows[seed].seconds / plain[seed].seconds
            for seed in rows
            if seed in plain and rows[seed].place == plain[seed].place
        ]
    )
