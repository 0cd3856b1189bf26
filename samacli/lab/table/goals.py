"""What a table of subsets has to show, judged by its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from samacli.lab.table.description import Table
from samacli.lab.table.figures import Block, Line, Mean, lead_over
from samacli.lab.table.markdown import difference, shown
from samacli.runs.prune.methods import PLAIN_RUN, RIVAL_SCORES, SAMA_RUN, SAMA_SCORES

LONGEST_SCORING = 1.5  # plain training runs, on a GPU
MOST_KEPT = 0.7  # where pruning has to beat training on all of the noisy rows
CLEAR = 2.0  # standard errors


@dataclass(frozen=True)
class Case:
    """One place where a goal can be met. met: None where too little is measured to tell."""

    place: str
    met: bool | None
    figures: str


@dataclass(frozen=True)
class Goal:
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


def has_noise(block: Block) -> bool:
    """Whether the recipe makes labels wrong."""
    return block.cells[0].recipe.data.noise.rate > 0


def goals(table: Table, blocks: Sequence[Block]) -> list[Goal]:
    """The goals, each with every setting and keep that it speaks of."""
    clean = [block for block in blocks if not has_noise(block)]
    noisy = [block for block in blocks if has_noise(block)]
    ours = f"`{table.ours}`"
    return [
        Goal(
            f"{ours} is best, or within one standard error of the best, on clean labels",
            [_best(table, b, k, _within_error) for b, k in _at(clean)],
        ),
        Goal(
            f"{ours} is better than random, everywhere",
            [_against(b, b.line(f"random-{k:g}"), k, _above) for b, k in _at(blocks)],
        ),
        Goal(
            f"{ours} is best on noisy labels, by more than {CLEAR:g} standard errors",
            [_best(table, b, k, _clearly_better) for b, k in _at(noisy)],
        ),
        Goal(
            f"{ours} at {MOST_KEPT:g} of the noisy rows is above all of them",
            [_above_full(table, b) for b in noisy if MOST_KEPT in _keeps(b)],
        ),
        Goal(
            f"a scoring run takes at most {LONGEST_SCORING:g} plain runs' time (meant for a GPU)",
            [case for b in blocks for case in _times(table, b)],
        ),
    ]


def best_rival(table: Table, block: Block, keep: float) -> Line | None:
    """Of the other methods that keep as much, the one of the highest mean."""
    rivals = [
        (mean.mean, line)
        for line in block.lines
        if line.entry.keep == keep
        and line.entry.base != table.ours
        and (mean := line.accuracy) is not None
    ]
    return max(rivals, key=lambda one: one[0])[1] if rivals else None


def over_full(table: Table, block: Block, keep: float) -> Mean | None:
    """Accuracy of ours at that keep minus that of all rows."""
    full, ours = block.line(table.plain), block.line(f"{table.ours}-{keep:g}")
    return None if full is None or ours is None else lead_over(ours.rows, full.rows)


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


def _keeps(block: Block) -> list[float]:
    return list(dict.fromkeys(line.entry.keep for line in block.lines if line.entry.keep))


def _at(blocks: Iterable[Block]) -> list[tuple[Block, float]]:
    return [(block, keep) for block in blocks for keep in _keeps(block)]


def _within_error(lead: Mean) -> bool:
    return lead.mean >= -(lead.error or 0.0)


def _above(lead: Mean) -> bool:
    return lead.mean > 0


def _clearly_better(lead: Mean) -> bool | None:
    return None if lead.error is None else lead.mean > CLEAR * lead.error


Judge = Callable[[Mean], bool | None]


def _best(table: Table, block: Block, keep: float, judge: Judge) -> Case:
    return _against(block, best_rival(table, block, keep), keep, judge)


def _against(block: Block, rival: Line | None, keep: float, judge: Judge) -> Case:
    place = f"{block.setting.title}, keep {keep:g}"
    lead = None if rival is None else rival.lead
    if rival is None or lead is None:
        return Case(place, None, "not measured")
    return Case(place, judge(lead), f"{difference(lead)} over `{rival.entry.base}`")


def _above_full(table: Table, block: Block) -> Case:
    lead = over_full(table, block, MOST_KEPT)
    if lead is None:
        return Case(block.setting.title, None, "not measured")
    return Case(block.setting.title, _above(lead), difference(lead))


def _times(table: Table, block: Block) -> list[Case]:
    rivals = block.line(RIVAL_SCORES)
    found = {
        "all rival scores": None if rivals is None else rivals.time,
        "the SAMA run": relative_part(block, SAMA_RUN),
        "all that `sama` takes": relative_part(block, None),
    }
    return [
        Case(
            f"{block.setting.title}, {name}",
            None if time is None else time.mean <= LONGEST_SCORING,
            "not measured" if time is None else f"{shown(time, 2)} plain runs",
        )
        for name, time in found.items()
    ]
