"""The page of a table of subsets in Markdown. No figure is typed in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from samacli.lab.table.description import Table
from samacli.lab.table.figures import Block, Line, Mean, value
from samacli.lab.table.goals import Goal, goals, over_full, relative_part
from samacli.lab.table.markdown import bold, counted, difference, grid, paragraph, shown
from samacli.lab.table.page import budget, described, made_by
from samacli.runs.prune.methods import PLAIN_RUN, RIVAL_SCORES, SAMA_RUN, SAMA_SCORES

# The parts of our scoring run, as `score` names them.
PARTS = {
    PLAIN_RUN: "plain run",
    "trust": "held-out run",
    SAMA_RUN: "SAMA run",
    "order": "trials of orders",
}


def pruning_page(table: Table, blocks: Sequence[Block], *, outdated: int = 0) -> str:
    """The whole page; outdated: cells left out for rows of another recipe or precision."""
    rows = [row for block in blocks for row in block.rows]
    if not rows:
        return f"# {table.title}\n\nNothing is measured yet.\n"
    blocks = [block for block in blocks if block.rows]
    lines = [f"# {table.title}", ""]
    lines += paragraph(table.about)
    lines += made_by(table, rows, outdated)
    lines += _goals(goals(table, blocks))
    lines += [f"![accuracy against the part kept]({table.name}.png)", ""]
    for block in blocks:
        lines += _setting(table, block)
    lines += _scoring(table, blocks)
    lines += described(blocks)
    lines += budget([_retrainings(block) for block in blocks])
    lines += paragraph(table.remarks)
    return "\n".join(lines).rstrip() + "\n"


def _goals(found: Sequence[Goal]) -> list[str]:
    lines = ["## Goals", ""]
    for goal in found:
        if not goal.cases:
            continue
        done = sum(case.met is True for case in goal.cases)
        verdict = {True: "met", False: "not met", None: "not all measured"}[goal.met]
        lines.append(f"- {goal.text}: **{verdict}**, {done} of {counted(len(goal.cases), 'place')}")
        lines += [
            f"  - {case.place}: {'not met' if case.met is False else 'open'}, {case.figures}"
            for case in goal.cases
            if not case.met
        ]
    return [*lines, ""]


def _setting(table: Table, block: Block) -> list[str]:
    keeps = list(dict.fromkeys(line.entry.keep for line in block.lines if line.entry.keep))
    noise = Mean.of([row.noise["noise_rate"] for row in block.rows if row.noise])
    head = ["kept", *(f"{keep:g}" for keep in keeps)]
    head += [f"`{table.ours}` minus it at {keep:g}" for keep in keeps]
    if noise is not None:
        head += ["wrong labels: average precision", "AUROC"]
    rows = []
    full = block.line(table.plain)
    if full is not None:
        leads = [difference(over_full(table, block, keep)) for keep in keeps]
        # One figure: nothing is left out.
        rows.append(["all rows", *([shown(full.accuracy)] * len(keeps)), *leads])
        rows[-1] += ["–"] * (len(head) - len(rows[-1]))
    for base in dict.fromkeys(line.entry.base for line in block.lines if line.entry.keep):
        lines = [block.line(f"{base}-{keep:g}") for keep in keeps]
        row = [base, *(_accuracy(block, line) for line in lines)]
        row += [difference(line.lead if line else None) for line in lines]
        if noise is not None:
            # The same array ranks for every keep.
            found = next((line for line in lines if line and line.noise("auroc")), None)
            row += [
                shown(value(found, m)) if found else "–" for m in ("average_precision", "auroc")
            ]
        rows.append(row)
    overrides = f" with `{' '.join(block.setting.set)}`" if block.setting.set else ""
    said = [f"Recipe `{block.setting.recipe}`{overrides}."]
    if noise is not None:
        said.append(
            f"{noise.mean:.3f} of the training labels are wrong: the average precision of a guess. "
            "Each score is asked from the end that it keeps: what it would drop first is what it "
            "takes for wrong."
        )
    return [
        f"## {block.setting.title}",
        "",
        *paragraph(block.setting.about),
        *paragraph(" ".join(said)),
        *grid(head, rows),
    ]


def _accuracy(block: Block, line: Line | None) -> str:
    if line is None:
        return "–"
    mean = line.accuracy
    return bold(shown(mean), mean is not None and block.is_best(line, "accuracy"))


def _scoring(table: Table, blocks: Sequence[Block]) -> list[str]:
    head = ["setting", "plain run, s", "rival scores, plain = 1", "sama scores, plain = 1",
            *(f"of it {title}" for title in PARTS.values()),
            "peak MiB: plain", "rival scores", "sama scores"]  # fmt: skip
    rows = []
    for block in blocks:
        plain, rivals, ours = (
            block.line(name) for name in (table.plain, RIVAL_SCORES, SAMA_SCORES)
        )
        seconds = None if plain is None else Mean.of([r.seconds for r in plain.rows.values()])
        rows.append(
            [
                block.setting.title,
                shown(seconds, 1),
                shown(rivals.time if rivals else None, 2),
                shown(relative_part(block, None), 2),
                *(shown(relative_part(block, part), 2) for part in PARTS),
                *(_peak(line) for line in (plain, rivals, ours)),
            ]
        )
    return [
        "## Time and memory of scoring",
        "",
        "One run of each serves every selection of a setting and seed. A plain run is one training "
        "on all rows; seconds are of the same machine, threads and seed. Sama's are over the plain "
        "run among its parts, which was made just before.",
        "",
        *grid(head, rows),
    ]


def _peak(line: Line | None) -> str:
    if line is None or not line.rows:
        return "–"
    return f"{max(row.peak_memory_bytes for row in line.rows.values()) / 2**20:,.0f}"


def _retrainings(block: Block) -> Block:
    """Without the scoring runs, whose steps are their own."""
    return replace(
        block,
        lines=[
            line for line in block.lines if line.entry.method not in (RIVAL_SCORES, SAMA_SCORES)
        ],
    )
