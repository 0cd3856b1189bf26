"""The page in Markdown, the sheet in CSV, and the picture. No figure is typed in here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import yaml

from samacli.data.sheet import csv_cell
from samacli.errors import SamaError
from samacli.lab.table.code import code_of
from samacli.lab.table.description import TableSpec, kept
from samacli.lab.table.figures import (
    Block,
    Judged,
    Line,
    blocks,
    difference,
    figure,
    judged,
    over_plain,
    relative_part,
)
from samacli.lab.table.plan import Cell, where
from samacli.lab.table.rows import Ledger, Row, Store
from samacli.lab.table.run import left
from samacli.runs.prune.methods import PLAIN_RUN, RIVAL_SCORES, SAMA_RUN, SAMA_SCORES
from samacli.store.output import written

MARK = "†"
SEEN, CHANGED = "‡", "§"  # of lines whose method was changed, see `Past`
SHEET = ("accuracy", "macro_f1", "lowest_recall", "average_precision", "auroc", "ece", "noise_rate")
# The parts of our scoring run, as `sama prune` names them.
PARTS = {
    PLAIN_RUN: "plain run",
    "trust": "held-out run",
    SAMA_RUN: "SAMA run",
    "order": "trials of orders",
}


def render(table: TableSpec, cells: Sequence[Cell], ledger: Ledger, folder: Path) -> list[Path]:
    """Write NAME.md, NAME.csv and NAME.png; each is replaced whole.

    Raises:
        SamaError: they can't be written.
    """
    from samacli.lab.table.picture import picture

    files = []
    code = {c.entry.method: code_of(where(c.workflow, c.entry.method)) for c in cells}
    try:
        with written(Store(folder, table.name).code) as stage:
            stage.write_text(yaml.safe_dump(code), encoding="utf-8")
        for ending, text in texts(table, cells, ledger, code).items():
            files.append(folder / f"{table.name}.{ending}")
            with written(files[-1]) as stage:
                stage.write_text(text, encoding="utf-8")
        files.append(folder / f"{table.name}.png")
        with written(files[-1]) as stage:
            picture(table, blocks(table, cells, ledger, code), stage)
    except OSError as error:
        raise SamaError(f"'{files[-1]}' cannot be written: {error.strerror}") from error
    return files


def texts(
    table: TableSpec, cells: Sequence[Cell], ledger: Ledger, code: Mapping[str, str]
) -> dict[str, str]:
    """The files that are text, by ending: md and csv. code: of the methods today (`code_of`)."""
    found = blocks(table, cells, ledger, code)
    outdated = len(left(cells, ledger).outdated)
    return {"md": page(table, found, outdated=outdated), "csv": sheet(found)}


def sheet(blocks: Sequence[Block]) -> str:
    """CSV: a line a setting and method, means and sample standard deviations over seeds."""
    lines = []
    timed_too = any(line.timed for block in blocks for line in block.lines)
    for block in blocks:
        for line in block.lines:
            means = {name: line.value(name) for name in (*SHEET, "seconds", "rows_seen")}
            means |= {"relative_time": line.time, "ours_minus_this": line.lead}
            if timed_too:
                timed = line.timed
                for name in ("accuracy", "seconds", "rows_seen"):
                    means[f"{name}_in_our_time"] = timed.value(name) if timed else None
                means["ours_minus_this_in_our_time"] = timed.lead if timed else None
            figures: dict[str, float | None] = {}
            for name, mean in means.items():
                figures[name] = mean.mean if mean else None
                figures[f"{name}_std"] = mean.spread if mean else None
            lines.append(
                {
                    "setting": csv_cell(block.setting.name),
                    "group": csv_cell(block.setting.group),
                    "method": csv_cell(line.entry.name),
                    "algorithm": line.entry.method,
                    "overrides": csv_cell(" ".join(line.entry.set)),
                    "uses_clean": line.cell.method.uses_clean,
                    "seeds": " ".join(map(str, sorted(line.rows))),
                    **figures,
                    "steps": _values(row.steps for row in line.rows.values()),
                    "peak_memory_bytes": line.peak_memory_bytes,
                }
            )
    frame = pd.DataFrame(lines).astype({"peak_memory_bytes": "Int64"})
    if frame["ece"].isna().all():  # rows that were made before it was measured
        frame = frame.drop(columns=["ece", "ece_std"])
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def page(table: TableSpec, blocks: Sequence[Block], *, outdated: int = 0) -> str:
    """The whole page; outdated: cells left out for rows of another recipe or precision."""
    rows = [row for block in blocks for row in block.rows]
    rows += [r for b in blocks for line in b.lines if line.timed for r in line.timed.rows.values()]
    if not rows:
        return f"# {table.title}\n\nNothing is measured yet.\n"
    lines = [f"# {table.title}", "", *_paragraph(table.about), *_made_by(table, rows, outdated)]
    lines += _roles(table)
    if table.workflow == "prune":
        blocks = [block for block in blocks if block.rows]
        lines += _goals(judged(table, blocks))
        lines += [f"![accuracy against the part kept]({table.name}.png)", ""]
        lines += [line for block in blocks for line in _subsets(table, block)]
        lines += _scoring(table, blocks)
    else:
        lines += _goals(judged(table, blocks))
        lines += _comparison(table, blocks)
        lines += [f"![accuracy by setting]({table.name}.png)", ""]
        lines += [line for block in blocks for line in _methods(table, block)]
    known = {line.entry.method: line.cell.method for block in blocks for line in block.lines}
    lines += ["## Methods", "", *(f"- `{n}`: {m.description}" for n, m in known.items()), ""]
    lines += [*_given(blocks), *_past(blocks), *_paragraph(table.remarks)]
    return "\n".join(lines).rstrip() + "\n"


def _made_by(table: TableSpec, rows: Sequence[Row], outdated: int) -> list[str]:
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    lines = [
        f"Made by {table.made_by.strip() or '`sama table`'} (`--dry-run` lists what is left, "
        f"`--render` makes the page again) from the rows in [{table.name}.jsonl]"
        f"({table.name}.jsonl), one a run, each with its recipe in [{table.name}-recipes.yaml]"
        f"({table.name}-recipes.yaml). Seeds {seeds}; mean ± sample standard deviation over seeds, "
        "test split. Every method starts from the same model with the same seed. **Bold**: the "
        "highest mean.",
        "",
    ]
    for place in dict.fromkeys(row.place for row in rows):
        some = [row for row in rows if row.place == place]
        _, name, threads, jobs = place
        lines.append(
            f"- {name}: {_counted(len(some), 'run')}, {_counted(threads, 'thread')} each, "
            f"{jobs} at a time; {_values(r.precision for r in some)}, torch "
            f"{_values(r.torch for r in some)}, transformers "
            f"{_values(r.transformers for r in some)}, samacli {_values(r.samacli for r in some)} "
            f"at {_values(r.commit or 'no checkout' for r in some)}"
        )
    lines.append("")
    if outdated:
        lines += [
            f"{_counted(outdated, 'run')} of an older recipe or another precision left out; "
            "`--redo-outdated` measures again.",
            "",
        ]
    return lines


def _roles(table: TableSpec) -> list[str]:
    """What the rows that are measured on may be used for, and what each seed draws."""
    said = []
    if table.role == "development":
        said.append(
            "**Development data**: settings may be chosen by these figures, which are of "
            "validation rows; no test split was read, and no claim rests on this page."
        )
    if table.role == "reporting":
        said.append(
            "**Reporting data**: nothing is chosen by these figures; where a method was changed "
            "after rows of it had been seen here, the ledger below says so."
        )
    if table.draws is not None:
        splits = (
            "splits (where the recipe names several, their rows pooled and dealt out anew), "
            * table.draws.splits
        )
        said.append(
            f"Every seed has {splits}clean set, subsets and noise of its own, drawn by seed "
            f"{table.draws.seed} of the table; spreads and errors are over all of these together."
        )
    return _paragraph(" ".join(said))


def _past(blocks: Sequence[Block]) -> list[str]:
    """The ledger: what settings and code the rows are of, and what was changed after they were
    seen."""
    head = ["method", "settings", "code", "commit", "measured", "changed"]
    rows = []
    for name, found in _across(blocks).items():
        lines = [line for _, line in found if line is not None and line.rows]
        lines += [line.timed for line in lines if line.timed is not None and line.timed.rows]
        if not lines:
            continue
        measured = [row for line in lines for row in line.rows.values()]
        dates = sorted(row.finished[:10] for row in measured)
        said = []
        if any(line.past.seen for line in lines):
            said.append(f"{SEEN} after earlier rows on the same data had been seen")
        if any(line.past.changed for line in lines):
            said.append(f"{CHANGED} since these rows: measured by other code than today's")
        if any(line.past.unknown for line in lines):
            said.append("not known: rows of a time that did not tell their code")
        rows.append(
            [
                name.removesuffix(f" {MARK}"),
                _values(row.digest[:6] for row in measured),
                _values(row.code or "–" for row in measured),
                _values(row.commit or "–" for row in measured),
                dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}",
                "; ".join(said) or "no",
            ]
        )
    return _section(
        "Ledger",
        "Settings: a hash of all that the recipe says to the method, a setting each (the first six "
        "digits of the rows' `digest`). Code: a hash of all code that it runs, comments left out, "
        "so that any change of it shows, one that changes no figure too. Changed: whether one of "
        "both was another when earlier rows of the method on the same draws of data had been seen "
        f"({SEEN}), or is another since ({CHANGED}).",
        head=head,
        rows=rows,
    )


def _goals(found: Sequence[Judged]) -> list[str]:
    if not found:
        return []
    lines = ["## Goals", ""]
    for goal in found:
        if not goal.cases:
            continue
        done = sum(case.met is True for case in goal.cases)
        verdict = {True: "met", False: "not met", None: "not all measured"}[goal.met]
        lines.append(
            f"- {goal.text}: **{verdict}**, {done} of {_counted(len(goal.cases), 'place')}"
        )
        lines += [
            f"  - {case.place}: {'not met' if case.met is False else 'open'}, {case.figures}"
            for case in goal.cases
            if not case.met
        ]
    return [*lines, ""]


# Methods on noisy labels


def _comparison(table: TableSpec, blocks: Sequence[Block]) -> list[str]:
    """Accuracy, and how far ours leads, a line a method and a column a setting."""
    across = _across(blocks)
    head = ["method", *(block.setting.title for block in blocks)]
    rows = [
        [name, *("–" if line is None else _measured(block, line) for block, line in found)]
        for name, found in across.items()
    ]
    lines = _section("Accuracy", head=head, rows=rows)
    if any(MARK in name for name in across):
        lines += _paragraph(
            f"{MARK} does not use the clean set: run once for a data set, and shown in each of its "
            "settings."
        )
    rows = [
        [name, *(difference(line.lead if line else None) for _, line in found)]
        for name, found in across.items()
        if name.removesuffix(f" {MARK}") != table.ours
    ]
    if rows and table.equal_time:
        timed = [
            [name, *(difference(line.timed.lead if line and line.timed else None)
                     for _, line in found)]
            for name, found in across.items()
            if any(line and line.timed and line.timed.lead for _, line in found)
        ]  # fmt: skip
    else:
        timed = []
    if rows:
        lines += _section(
            f"`{table.ours}` minus each other method",
            "Mean difference of accuracy over the seeds that both have ± its standard error: above "
            f"0 where `{table.ours}` is better.",
            head=head,
            rows=rows,
        )
    if timed:
        lines += _section(
            f"`{table.ours}` minus each other method in the same time",
            f"The same with every other method trained for as long as `{table.ours}` took with the "
            "same seed in this table: its steps times how much longer that was than it took "
            "itself. Steps and seconds are in the settings' own tables.",
            head=head,
            rows=timed,
        )
    return lines


def _across(blocks: Sequence[Block]) -> dict[str, list[tuple[Block, Line | None]]]:
    """The lines of each method, as it is shown, in each setting."""
    entries = {line.entry.name: _name(line) for block in blocks[::-1] for line in block.lines[::-1]}
    order = dict.fromkeys(line.entry.name for block in blocks for line in block.lines)
    return {entries[name]: [(block, block.line(name)) for block in blocks] for name in order}


def _methods(table: TableSpec, block: Block) -> list[str]:
    head = ["method", "accuracy", "seeds", "macro-F1", "recall of the worst class",
            f"{table.ours} minus it (± s.e.)", "noise: average precision", "AUROC",
            "by weight: average precision",
            "steps", "rows seen", "seconds", f"time, {table.plain} = 1", "peak MiB"]  # fmt: skip
    if table.equal_time:
        same = f"in the time of {table.ours}"
        head += [f"{same}: accuracy", f"{table.ours} minus it", "steps", "rows seen", "seconds"]
    rows = [
        [
            _name(line),
            _measured(block, line),
            str(len(line.rows)),
            _measured(block, line, "macro_f1"),
            _measured(block, line, "lowest_recall"),
            difference(line.lead),
            _measured(block, line, "average_precision"),
            _measured(block, line, "auroc"),
            _measured(block, line, "by_weight_average_precision"),
            *_took(line),
            figure(line.time, 2),
            _peak(line),
            *(_in_our_time(line.timed) if table.equal_time else []),
        ]
        for line in block.lines
    ]
    said = [
        f"`{line.entry.name}` is `{line.entry.method}` with `{' '.join(line.entry.set)}`."
        for line in block.lines
        if line.entry.set
    ]
    return _setting(block, said, head, rows)


def _took(line: Line) -> list[str]:
    """Steps, rows seen and seconds."""
    seen = line.value("rows_seen")
    return [
        _values(row.steps for row in line.rows.values()) or "–",
        f"{seen.mean:,.0f}" if seen else "–",
        figure(line.value("seconds"), 1),
    ]


def _in_our_time(line: Line | None) -> list[str]:
    if line is None or not line.rows:
        return ["–"] * 5
    return [figure(line.accuracy), difference(line.lead), *_took(line)]


# Subsets of the training rows


def _subsets(table: TableSpec, block: Block) -> list[str]:
    keeps, noisy = block.keeps, block.noise_rate is not None
    head = ["kept", *(f"{keep:g}" for keep in keeps)]
    head += [f"`{table.ours}` minus it at {keep:g}" for keep in keeps]
    if noisy:
        head += ["wrong labels: average precision", "AUROC"]
    rows = []
    plain = block.line(table.plain)
    if plain is not None:
        leads = [difference(over_plain(table, block, keep)) for keep in keeps]
        # One figure: nothing is left out.
        rows.append(["all rows", *([figure(plain.accuracy)] * len(keeps)), *leads])
        rows[-1] += ["–"] * (len(head) - len(rows[-1]))
    for base in dict.fromkeys(line.entry.base for line in block.lines if line.entry.keep):
        lines = [block.line(kept(base, keep)) for keep in keeps]
        row = [base, *("–" if line is None else _measured(block, line) for line in lines)]
        row += [difference(line.lead if line else None) for line in lines]
        if noisy:
            # The same array ranks for every keep.
            found = next((line for line in lines if line and line.value("auroc")), None)
            measures = ("average_precision", "auroc")
            row += [figure(found.value(name) if found else None) for name in measures]
        rows.append(row)
    said = [
        "Each score is asked from the end that it keeps: what it would drop first is what it "
        "takes for wrong."
    ]
    return _setting(block, said if noisy else [], head, rows)


def _scoring(table: TableSpec, blocks: Sequence[Block]) -> list[str]:
    head = ["setting", "plain run, s", "rival scores, plain = 1", "sama scores, plain = 1",
            *(f"of it {title}" for title in PARTS.values()),
            "peak MiB: plain", "rival scores", "sama scores"]  # fmt: skip
    rows = []
    for block in blocks:
        runs = [block.line(name) for name in (table.plain, RIVAL_SCORES, SAMA_SCORES)]
        plain, rivals, _ = runs
        rows.append(
            [
                block.setting.title,
                figure(plain.value("seconds") if plain else None, 1),
                figure(rivals.time if rivals else None, 2),
                *(figure(relative_part(block, part), 2) for part in (None, *PARTS)),
                *(_peak(line) for line in runs),
            ]
        )
    return _section(
        "Time and memory of scoring",
        "One run of each serves every selection of a setting and seed. A plain run is one training "
        "on all rows; seconds are of the same machine, threads and seed. Sama's are over the plain "
        "run among its parts, which was made just before.",
        head=head,
        rows=rows,
    )


# Both


def _setting(
    block: Block, said: Sequence[str], head: list[str], rows: Iterable[list[str]]
) -> list[str]:
    overrides = f" with `{' '.join(block.setting.set)}`" if block.setting.set else ""
    words = [f"Recipe `{block.setting.recipe}`{overrides}."]
    if (noise := block.noise_rate) is not None:
        words.append(
            f"{noise.mean:.3f} of the training labels are wrong: the average precision of a guess."
        )
    about = [block.setting.about, " ".join([*words, *said])]
    return _section(block.setting.title, *about, head=head, rows=rows)


def _given(blocks: Sequence[Block]) -> list[str]:
    head = ["setting", "model", "frozen", "steps", "batch", "tokens", "learning rate",
            "training rows", "clean rows", "test rows"]  # fmt: skip
    rows = []
    for block in blocks:
        recipe = block.cell.recipe
        # Scoring runs' steps are their own.
        known = {line.entry.method: line.cell.method for line in block.lines}
        trained = [
            row
            for row in block.rows
            if row.algorithm not in (RIVAL_SCORES, SAMA_SCORES)
            and getattr(known[row.algorithm], "steps", True)
        ]
        own = [row for row in trained if row.setting == block.setting.name]
        settled = block.cell.settled
        frozen = settled.get("model.freeze", recipe.model.freeze)
        rate = settled.get(
            "training.optimizer.learning_rate", recipe.training.optimizer.learning_rate
        )
        rows.append(
            [
                block.setting.title,
                recipe.model.name,
                ", ".join(map("`{}`".format, frozen)) or "nothing",
                _values(row.steps for row in trained),
                str(settled.get("training.batch_size", recipe.training.batch_size)),
                str(recipe.data.max_length),
                f"{rate:g}",
                *(
                    _values(f"{row.rows[split]:,}" for row in own) or "–"
                    for split in ("train", "meta", "test")
                ),
            ]
        )
    return _section(
        "What the recipe gives every method of a setting",
        "Steps and batches of the base model. What a method takes beyond them (clean rows beside a "
        "batch, meta steps, runs of several folds) is in its rows seen and seconds.",
        head=head,
        rows=rows,
    )


def _measured(block: Block, line: Line, measure: str = "accuracy") -> str:
    """Mean and spread, in bold if it is the best."""
    text = figure(line.value(measure))
    text = f"**{text}**" if block.best(line, measure) else text
    return text + _marks(line) if measure == "accuracy" else text


def _name(line: Line) -> str:
    return line.entry.name if line.cell.method.uses_clean else f"{line.entry.name} {MARK}"


def _marks(line: Line) -> str:
    """Behind its figures: that the method was changed, as the ledger tells."""
    pasts = [line.past] + ([line.timed.past] if line.timed else [])
    marks = (SEEN, any(p.seen for p in pasts)), (CHANGED, any(p.changed for p in pasts))
    return "".join(f" {mark}" for mark, there in marks if there)


def _peak(line: Line | None) -> str:
    """In MiB."""
    peak = line.peak_memory_bytes if line else None
    return "–" if peak is None else f"{peak / 2**20:,.0f}"


def _paragraph(text: str) -> list[str]:
    """The text and an empty line; nothing for an empty text."""
    return [text.strip(), ""] if text.strip() else []


def _section(
    title: str, *said: str, head: Sequence[str], rows: Iterable[Sequence[str]]
) -> list[str]:
    """A heading, paragraphs, and a table."""
    lines = [f"## {title}", "", *(line for text in said for line in _paragraph(text))]
    lines += ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _values(found: Iterable[object]) -> str:
    """Those that occur, in order of their first occurrence."""
    return ", ".join(dict.fromkeys(map(str, found)))


def _counted(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
