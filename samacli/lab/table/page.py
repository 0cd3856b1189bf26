"""The page in Markdown and the sheet in CSV. No figure is typed in here."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from samacli.export.escape import csv_cell
from samacli.lab.table.description import Table
from samacli.lab.table.figures import Block, Line, Mean, value
from samacli.lab.table.markdown import (
    bold,
    counted,
    difference,
    grid,
    paragraph,
    shown,
    values,
)
from samacli.lab.table.row import Row

MARK = "†"
SHEET = ("accuracy", "macro_f1", "lowest_recall", "average_precision", "auroc", "noise_rate")


def page(table: Table, blocks: Sequence[Block], *, outdated: int = 0) -> str:
    """The whole page; outdated: cells left out for rows of another recipe or precision."""
    rows = [row for block in blocks for row in block.rows]
    if not rows:
        return f"# {table.title}\n\nNothing is measured yet.\n"
    lines = [f"# {table.title}", ""]
    lines += paragraph(table.about)
    lines += made_by(table, rows, outdated)
    lines += _overview(table, blocks)
    lines += _leads(table, blocks)
    lines += [f"![accuracy by setting]({table.name}.png)", ""]
    for block in blocks:
        lines += _setting(table, block)
    lines += described(blocks)
    lines += budget(blocks)
    lines += paragraph(table.remarks)
    return "\n".join(lines).rstrip() + "\n"


def sheet(blocks: Sequence[Block]) -> str:
    """CSV: a line a setting and method, means and sample standard deviations over seeds."""
    file = io.StringIO()
    head = ["setting", "group", "method", "algorithm", "overrides", "uses_clean", "seeds"]
    for name in (*SHEET, "seconds", "relative_time", "ours_minus_this"):
        head += [name, f"{name}_std"]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*head, "steps", "peak_memory_bytes"])
    for block in blocks:
        for line in block.lines:
            means = [value(line, name) for name in SHEET]
            means += [Mean.of([r.seconds for r in line.rows.values()]), line.time, line.lead]
            writer.writerow(
                [
                    csv_cell(block.setting.name),
                    csv_cell(block.setting.group),
                    csv_cell(line.entry.name),
                    line.entry.method,
                    csv_cell(" ".join(line.entry.set)),
                    line.uses_clean,
                    " ".join(map(str, sorted(line.rows))),
                    *(cell for mean in means for cell in _sheet_cells(mean)),
                    values(r.steps for r in line.rows.values()),
                    max((r.peak_memory_bytes for r in line.rows.values()), default=""),
                ]
            )
    return file.getvalue()


def made_by(table: Table, rows: Sequence[Row], outdated: int) -> list[str]:
    seeds = ", ".join(map(str, sorted({row.seed for row in rows})))
    lines = [
        f"Made by `make table-{table.name}` (`sama table {table.name}`; `--dry-run` lists what is "
        f"left, `--render` makes the page again) from the rows in "
        f"[{table.name}.jsonl]({table.name}.jsonl), one a run, each with its recipe in "
        f"[{table.name}-recipes]({table.name}-recipes). Seeds {seeds}; mean ± sample standard "
        f"deviation over seeds, test split. Every method starts from the same model with the same "
        "seed. **Bold**: the highest mean.",
        "",
    ]
    for place in dict.fromkeys(row.place for row in rows):
        some = [row for row in rows if row.place == place]
        _, name, threads, jobs = place
        lines.append(
            f"- {name}: {counted(len(some), 'run')}, {counted(threads, 'thread')} each, "
            f"{jobs} at a time; {values(r.precision for r in some)}, torch "
            f"{values(r.torch for r in some)}, transformers "
            f"{values(r.transformers for r in some)}, samacli {values(r.samacli for r in some)} "
            f"at {values(r.commit or 'no checkout' for r in some)}"
        )
    lines.append("")
    if outdated:
        lines += [
            f"{counted(outdated, 'run')} of an older recipe or another precision left out; "
            f"`sama table {table.name} --redo-outdated` measures again.",
            "",
        ]
    return lines


def _overview(table: Table, blocks: Sequence[Block]) -> list[str]:
    rows = []
    for entry in _entries(blocks):
        cells = []
        for block in blocks:
            line = block.line(entry)
            mean = None if line is None else line.accuracy
            best = line is not None and block.is_best(line, "accuracy")
            cells.append(bold(shown(mean), best))
        rows.append([_marked(blocks, entry), *cells])
    footnote = (
        f"{MARK} does not use the clean set: run once for a data set, and shown in each of its "
        "settings."
    )
    marked = any(not line.uses_clean for block in blocks for line in block.lines)
    return [
        "## Accuracy",
        "",
        *grid(["method", *(block.setting.title for block in blocks)], rows),
        *([footnote, ""] if marked else []),
    ]


def _leads(table: Table, blocks: Sequence[Block]) -> list[str]:
    rows = []
    for entry in _entries(blocks):
        if entry == table.ours:
            continue
        leads = [line.lead if (line := block.line(entry)) else None for block in blocks]
        rows.append([_marked(blocks, entry), *(difference(lead) for lead in leads)])
    if not rows:
        return []
    return [
        f"## `{table.ours}` minus each other method",
        "",
        f"Mean difference of accuracy over the seeds that both have ± its standard error: above 0 "
        f"where `{table.ours}` is better.",
        "",
        *grid(["method", *(block.setting.title for block in blocks)], rows),
    ]


def _setting(table: Table, block: Block) -> list[str]:
    head = ["method", "accuracy", "seeds", "macro-F1", "recall of the worst class",
            f"{table.ours} minus it (± s.e.)", "noise: average precision", "AUROC",
            f"time, {table.plain} = 1", "steps", "peak MiB"]  # fmt: skip

    def figure(line: Line, name: str) -> str:
        return bold(shown(value(line, name)), block.is_best(line, name))

    rows = [
        [
            _name(line),
            figure(line, "accuracy"),
            str(len(line.rows)),
            figure(line, "macro_f1"),
            figure(line, "lowest_recall"),
            difference(line.lead),
            figure(line, "average_precision"),
            figure(line, "auroc"),
            shown(line.time, 2),
            values(row.steps for row in line.rows.values()) or "–",
            _mebibytes(line),
        ]
        for line in block.lines
    ]
    noise = Mean.of([row.noise["noise_rate"] for row in block.rows if row.noise])
    chance = (
        []
        if noise is None
        else [
            f"{noise.mean:.3f} of the training labels are wrong: the average precision of a guess."
        ]
    )
    changed = [
        f"`{line.entry.name}` is `{line.entry.method}` with `{' '.join(line.entry.set)}`."
        for line in block.lines
        if line.entry.set
    ]
    overrides = f" with `{' '.join(block.setting.set)}`" if block.setting.set else ""
    return [
        f"## {block.setting.title}",
        "",
        *paragraph(block.setting.about),
        *paragraph(" ".join([f"Recipe `{block.setting.recipe}`{overrides}.", *chance, *changed])),
        *grid(head, rows),
    ]


def described(blocks: Sequence[Block]) -> list[str]:
    found = {line.entry.method: line.method for block in blocks for line in block.lines}
    return [
        "## Methods",
        "",
        *(f"- `{n}`: {method.description}" for n, method in found.items()),
        "",
    ]


def budget(blocks: Sequence[Block]) -> list[str]:
    head = ["setting", "model", "frozen", "steps", "batch", "tokens", "learning rate",
            "training rows", "clean rows", "test rows"]  # fmt: skip
    rows = []
    for block in blocks:
        recipe = block.cells[0].recipe
        own = [row for row in block.rows if row.setting == block.setting.name]
        rows.append(
            [
                block.setting.title,
                recipe.model.name,
                ", ".join(f"`{pattern}`" for pattern in recipe.model.freeze) or "nothing",
                values(row.steps for row in block.rows),
                str(recipe.training.batch_size),
                str(recipe.data.max_length),
                f"{recipe.training.optimizer.learning_rate:g}",
                *(
                    values(f"{row.rows[split]:,}" for row in own) or "–"
                    for split in ("train", "meta", "test")
                ),
            ]
        )
    return ["## Budget, the same for every method of a setting", "", *grid(head, rows)]


def _entries(blocks: Sequence[Block]) -> list[str]:
    return list(dict.fromkeys(line.entry.name for block in blocks for line in block.lines))


def _marked(blocks: Sequence[Block], entry: str) -> str:
    line = next(line for block in blocks if (line := block.line(entry)))
    return _name(line)


def _name(line: Line) -> str:
    return line.entry.name if line.uses_clean else f"{line.entry.name} {MARK}"


def _mebibytes(line: Line) -> str:
    peaks = [row.peak_memory_bytes for row in line.rows.values()]
    return f"{max(peaks) / 2**20:,.0f}" if peaks else "–"


def _sheet_cells(mean: Mean | None) -> list[str]:
    if mean is None:
        return ["", ""]
    show: Callable[[float], str] = lambda number: f"{number:.6g}"  # noqa: E731
    return [show(mean.mean), "" if mean.spread is None else show(mean.spread)]
