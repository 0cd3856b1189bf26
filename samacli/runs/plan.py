"""`--dry-run`: what `sama reweight` or `sama prune` would do, found out without training."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samacli.methods import check_methods
from samacli.progress import Progress, Silent
from samacli.pruning.selection import keep_counts
from samacli.recipe import Recipe, resolve_paths
from samacli.runs.auto import auto_values
from samacli.runs.estimate import estimate, plan_line
from samacli.runs.opening import opening_lines
from samacli.runs.prune.planned import planned
from samacli.runs.prune.run import check_verify
from samacli.runs.reweight import check_clean_set, methods_of, planned_trainings
from samacli.store.output import check_output
from samacli.training.experiment import Experiment
from samacli.training.runtime import DeviceName
from samacli.training.settle import Resolved


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    rows: of each split. classes: training rows by class name. trainings: how often each is done,
    over all seeds; steps_of: and for how many steps each time. keeps: for `prune`, rows that each
    keep leaves. steps: of a training on all rows, each of `batch_size` training rows in each of the
    `processes`; `epochs` is what they come to. A meta step of `meta_batch_size` rows is taken every
    `unroll` steps. auto: what the recipe's `auto`s are here. seconds, memory_bytes: of all, about;
    None where no step could be tried.
    """

    command: str
    output: Path
    rows: dict[str, int]
    classes: dict[str, int]
    model: str
    device: str
    seeds: list[int]
    trainings: dict[str, int]
    steps_of: dict[str, int]
    keeps: dict[str, int]
    steps: int
    epochs: float
    batch_size: int
    processes: int
    meta_batch_size: int
    unroll: int
    auto: list[Resolved]
    seconds: float | None
    memory_bytes: int | None
    takes: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan(
    command: str,
    recipe: Recipe,
    output: Path,
    *,
    overwrite: bool = False,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> Plan:
    """All that a run does before it trains: read and encode the data, load the model, check.

    Writes nothing to `output`.

    Raises:
        SamaError: whatever the run would be refused for.
    """
    progress = progress or Silent()
    if command == "reweight":
        check_clean_set(recipe)
    else:
        check_verify(recipe)
    check_output(output, overwrite=overwrite)
    untracked = resolve_paths(recipe).model_copy(update={"track": []})
    experiment = Experiment.prepare(untracked, device=device, progress=progress)
    for line in opening_lines(experiment.splits):
        progress.note(line)
    keeps: dict[str, int] = {}
    if command == "reweight":
        names = methods_of(experiment)
        check_methods(experiment, names)
        trainings = planned_trainings(experiment, names)
    else:
        keeps = keep_counts(recipe.prune.keep, len(experiment.train))
        trainings = planned(experiment, keeps)
    auto = auto_values(experiment, command)
    found = estimate(experiment, trainings)
    progress.note(plan_line(trainings, found, auto))
    training, train = experiment.recipe.training, experiment.splits.train
    processes = experiment.accelerator.num_processes
    at_once = training.rows * training.accumulation * processes
    return Plan(
        command=command,
        output=output,
        rows=experiment.sizes,
        classes=train.class_rows(experiment.splits.classes),
        model=recipe.model.name,
        device=str(experiment.accelerator.device),
        seeds=recipe.seeds,
        trainings=dict(Counter(one.name for one in trainings)),
        steps_of={one.name: one.steps for one in trainings},
        keeps=keeps,
        steps=experiment.steps,
        epochs=experiment.steps * at_once / max(1, int((train.labels >= 0).sum())),
        batch_size=training.rows,
        processes=processes,
        meta_batch_size=recipe.meta.batch_size,
        unroll=experiment.recipe.meta.every,
        auto=auto,
        seconds=found.seconds,
        memory_bytes=found.memory_bytes,
        takes=found.text,
    )
