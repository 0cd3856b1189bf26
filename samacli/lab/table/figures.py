"""Rows summed up over seeds, and judged: what the page, the sheet and the picture show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from samacli.lab.table.description import BEST, Entry, Goal, Setting, TableSpec, kept
from samacli.lab.table.past import Past, past
from samacli.lab.table.plan import Cell
from samacli.lab.table.rows import Ledger, Row
from samacli.runs.prune.methods import PLAIN_RUN, RIVAL_SCORES, SAMA_RUN, SAMA_SCORES
from samacli.training.spread import mean_and_spread, shown


@dataclass(frozen=True)
class Mean:
    """Of one value or more."""

    values: tuple[float, ...]

    @staticmethod
    def of(values: Sequence[float | None]) -> Mean | None:
        """None where there are no values."""
        known = tuple(value for value in values if value is not None)
        return Mean(known) if known else None

    @property
    def mean(self) -> float:
        return mean_and_spread(self.values)[0]

    @property
    def spread(self) -> float | None:
        """Sample standard deviation, None for one value."""
        return mean_and_spread(self.values)[1]

    @property
    def error(self) -> float | None:
        """Standard error of the mean."""
        return None if self.spread is None else self.spread / math.sqrt(len(self.values))


def figure(mean: Mean | None, digits: int = 3) -> str:
    """`0.912 ± 0.004`, a sample standard deviation; a dash where there is nothing."""
    return "–" if mean is None else shown(mean.mean, mean.spread, digits)


def difference(mean: Mean | None) -> str:
    """`+0.012 ± 0.004`, a standard error."""
    return "–" if mean is None else shown(mean.mean, mean.error, sign="+")


# Of `Row.noise`.
NOISE = ("average_precision", "auroc", "ece", "noise_rate", "by_weight_average_precision")


@dataclass(frozen=True)
class Line:
    """One method in one setting. rows: by seed. lead: accuracy of ours minus this one's, over
    the seeds that both have. time: training seconds over the plain method's with the same seed on
    the same machine with as many threads and jobs. past: what became of the method since. timed:
    the same, trained for as long as ours took."""

    cell: Cell
    rows: dict[int, Row]
    lead: Mean | None
    time: Mean | None
    past: Past = field(default_factory=Past)
    timed: Line | None = None

    @property
    def entry(self) -> Entry:
        return self.cell.entry

    def value(self, measure: str) -> Mean | None:
        """measure: a number of the row, lowest_recall (of the class that is found least, which may
        be another one with another seed), or one of `Row.noise`."""
        rows = self.rows.values()
        if measure == "lowest_recall":
            return Mean.of([min(row.recall.values()) for row in rows if row.recall])
        if measure in NOISE:
            found = [row.noise.get(measure) for row in rows if row.noise]
            return Mean.of([value for value in found if value is not None])
        return Mean.of([getattr(row, measure) for row in rows])

    @property
    def accuracy(self) -> Mean | None:
        return self.value("accuracy")

    @property
    def peak_memory_bytes(self) -> int | None:
        """The most that a run took; None without runs."""
        return max((row.peak_memory_bytes for row in self.rows.values()), default=None)


@dataclass(frozen=True)
class Block:
    """One setting and its methods."""

    setting: Setting
    lines: list[Line]

    @property
    def rows(self) -> list[Row]:
        return [row for line in self.lines for row in line.rows.values()]

    @property
    def cell(self) -> Cell:
        """One of its cells, for what the recipe says."""
        return self.lines[0].cell

    @property
    def noise_rate(self) -> Mean | None:
        """Of the training labels, where the truth is known."""
        return Mean.of([row.noise["noise_rate"] for row in self.rows if row.noise])

    @property
    def keeps(self) -> list[float]:
        return list(dict.fromkeys(line.entry.keep for line in self.lines if line.entry.keep))

    def line(self, name: str) -> Line | None:
        return next((line for line in self.lines if line.entry.name == name), None)

    def best(self, line: Line, measure: str = "accuracy") -> bool:
        """Whether none that keeps as much has a higher mean; measure: as `Line.value` takes it."""
        mean = line.value(measure)
        rivals = [one for one in self.lines if one.entry.keep == line.entry.keep]
        means = [other.mean for one in rivals if (other := one.value(measure)) is not None]
        return mean is not None and mean.mean >= max(means) - 1e-9  # the same mean, summed up twice


def blocks(
    table: TableSpec,
    cells: Sequence[Cell],
    ledger: Ledger,
    code: Mapping[str, str] | None = None,
) -> list[Block]:
    """The settings of the cells, each with its methods, in the table's order.

    code: of the methods today; see `past`.
    """
    made = []
    for setting in dict.fromkeys(cell.setting.name for cell in cells):
        known: dict[str, tuple[Cell, dict[int, Row]]] = {}
        for cell in cells:
            if cell.setting.name == setting:
                _, rows = known.setdefault(cell.entry.name, (cell, {}))
                if (row := ledger.row(cell)) is not None:
                    rows[cell.seed] = row
        nothing: tuple[None, dict[int, Row]] = None, {}
        _, plain = known.get(table.plain, nothing)
        lines, timed = list[Line](), dict[str, Line]()
        for name, (cell, rows) in known.items():
            ours = kept(table.ours, cell.entry.keep)
            lead = None if name == ours else lead_over(known.get(ours, nothing)[1], rows)
            then = past(cell, list(rows.values()), ledger, code or {})
            line = Line(cell, rows, lead, _time(rows, plain), then)
            if cell.pace is None:
                lines.append(line)
            else:
                timed[cell.pace[1].entry.name] = line
        lines = [replace(line, timed=timed.get(line.entry.name)) for line in lines]
        made.append(Block(lines[0].cell.setting, lines))
    return made


def lead_over(ours: Mapping[int, Row], other: Mapping[int, Row]) -> Mean | None:
    """Accuracy of ours minus the other's, over the seeds that both have."""
    pairs = [(ours[seed].accuracy, other[seed].accuracy) for seed in ours if seed in other]
    return Mean.of([a - b for a, b in pairs if a is not None and b is not None])


def _time(rows: dict[int, Row], plain: dict[int, Row]) -> Mean | None:
    return Mean.of(
        [
            rows[seed].seconds / plain[seed].seconds
            for seed in rows
            if seed in plain and rows[seed].place == plain[seed].place
        ]
    )


def over_plain(table: TableSpec, block: Block, keep: float) -> Mean | None:
    """Accuracy of ours at that keep minus that of the plain method, all rows."""
    plain, ours = block.line(table.plain), block.line(kept(table.ours, keep))
    return None if plain is None or ours is None else lead_over(ours.rows, plain.rows)


def relative_part(block: Block, part: str | None) -> Mean | None:
    """Seconds of a part of our scoring run, or of all (None), over those of its plain run.

    They were made one after the other, so that the machine was alike for both.
    """
    scoring = block.line(SAMA_SCORES)
    if scoring is None:
        return None
    return Mean.of(
        [
            (row.seconds if part is None else row.parts[part]) / row.parts[PLAIN_RUN]
            for row in scoring.rows.values()
            if row.parts and PLAIN_RUN in row.parts and (part is None or part in row.parts)
        ]
    )


# Goals


@dataclass(frozen=True)
class Case:
    """One place where a goal can be met. met: None where too little is measured to tell."""

    place: str
    met: bool | None
    figures: str = "not measured"


@dataclass(frozen=True)
class Judged:
    """One goal and the places that it speaks of."""

    text: str
    cases: list[Case]

    @property
    def met(self) -> bool | None:
        """Everywhere; None as long as a place is not measured and no place fails."""
        found = [case.met for case in self.cases]
        if False in found:
            return False
        return None if None in found or not found else True


def judged(table: TableSpec, blocks: Sequence[Block]) -> list[Judged]:
    """The table's goals, each with every setting and keep that it speaks of."""
    verdicts = []
    for goal in table.goals:
        cases = []
        for block in blocks:
            wrong = block.cell.recipe.data.noise.rate > 0
            if goal.labels not in ("all", "wrong" if wrong else "clean"):
                continue
            if goal.scoring is not None:
                cases += _times(block, goal.scoring)
            else:
                keeps: list[float | None] = [*block.keeps] or [None]
                cases += [_led(table, block, k, goal) for k in keeps if goal.keep in (None, k)]
        verdicts.append(Judged(goal.text, cases))
    return verdicts


def _led(table: TableSpec, block: Block, keep: float | None, goal: Goal) -> Case:
    at = "" if keep is None or goal.keep is not None else f", keep {keep:g}"
    place = f"{block.setting.title}{at}"
    assert goal.over is not None
    if goal.over == BEST:
        rivals = [
            (mean.mean, line)
            for line in block.lines
            if line.entry.keep == keep
            and line.entry.base != table.ours
            and (mean := line.accuracy) is not None
        ]
        rival = max(rivals, key=lambda one: one[0])[1] if rivals else None
    else:
        rival = block.line(kept(goal.over, keep)) or block.line(goal.over)
    ours = block.line(kept(table.ours, keep))
    lead = None if rival is None or ours is None else lead_over(ours.rows, rival.rows)
    if rival is None or lead is None:
        return Case(place, None)
    least = goal.errors * (lead.error or 0.0)
    met: bool | None = lead.mean >= least if goal.errors < 0 else lead.mean > least
    if goal.errors > 0 and lead.error is None:
        met = None
    return Case(place, met, f"{difference(lead)} over `{rival.entry.base}`")


def _times(block: Block, most: float) -> list[Case]:
    rivals = block.line(RIVAL_SCORES)
    found = {
        "all rival scores": rivals.time if rivals else None,
        "the SAMA run": relative_part(block, SAMA_RUN),
        "all that `sama` takes": relative_part(block, None),
    }
    return [
        Case(f"{block.setting.title}, {name}", time.mean <= most, f"{figure(time, 2)} plain runs")
        if time
        else Case(f"{block.setting.title}, {name}", None)
        for name, time in found.items()
    ]
