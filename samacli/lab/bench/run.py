"""`sama bench`: every estimator and plain training in alternation, over models and processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samacli.errors import SamaError
from samacli.lab.bench import line
from samacli.lab.bench.alternate import Alternation
from samacli.lab.bench.contenders import Contender
from samacli.lab.bench.row import Row
from samacli.lab.bench.setting import Setting
from samacli.lab.bench.team import here, member
from samacli.progress import Progress, Silent
from samacli.store.output import check_file, written


@dataclass(frozen=True)
class Plan:
    """How to measure, see `alternate.Alternation`.

    derivatives: compare their forms too. in_process: contenders share this process.
    """

    rounds: int = 5
    steps: int | None = None
    derivatives: bool = False
    in_process: bool = False


def bench(
    settings: Sequence[Setting],
    contenders: Sequence[Contender],
    plan: Plan,
    *,
    json_file: Path | None = None,
    plot_file: Path | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Measure every contender in every setting, settings one after another.

    json_file gets all rows so far after each setting, so that an interruption loses one setting
    at most; plot_file (PNG) is drawn at the end.

    Raises:
        SamaError: a file that cannot be written, or nothing could be measured.
    """
    progress = progress or Silent()
    if plan.derivatives and not any(c.estimator == "sama" for c in contenders):
        raise SamaError("--derivatives compares forms of sama; add sama to --estimators")
    if plan.in_process and any(setting.world_size > 1 for setting in settings):
        raise SamaError("--in-process is one process; give --nproc 1, or leave it out")
    for option, file in (("--json", json_file), ("--plot", plot_file)):
        if file is not None:
            check_file(option, file)
    store = line.host()
    rows: list[Row] = []
    compared: set[str] = set()
    for setting in settings:
        alternation = Alternation(
            store,
            setting,
            rounds=plan.rounds,
            steps=plan.steps,
            progress=progress,
            start=here if plan.in_process else member,
        )
        found = alternation.rows(contenders)
        if plan.derivatives and setting.model not in compared:
            compared.add(setting.model)
            found = _with_derivatives(found, alternation)
        rows += found
        if json_file is not None:
            with written(json_file) as file:
                text = json.dumps([row.as_dict() for row in rows], indent=2, allow_nan=False)
                file.write_text(text + "\n", encoding="utf-8")
    if all(row.error for row in rows):
        raise SamaError(f"nothing could be measured: {rows[0].error}")
    if plot_file is not None:
        from samacli.lab.bench.plot import plot

        with written(plot_file) as file:
            plot(rows, file)
    return rows


def _with_derivatives(rows: list[Row], alternation: Alternation) -> list[Row]:
    derivatives = alternation.derivatives()
    at = next(i for i, row in enumerate(rows) if row.estimator.split(":")[0] == "sama")
    return [replace(row, derivatives=derivatives) if i == at else row for i, row in enumerate(rows)]
