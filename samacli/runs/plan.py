"""`--dry-run`: what `sama reweight` or `sama prune` would do, found out without training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samacli.methods import check_methods
from samacli.progress import Progress, Silent
from samacli.pruning.selection import keep_count
from samacli.recipe import Recipe, resolve_paths
from samacli.runs.check import opening_lines
from samacli.runs.prune.run import check_verify
from samacli.runs.reweight import check_clean_set, methods_of
from samacli.store.output import check_output
from samacli.training.experiment import Experiment
from samacli.training.runtime import DeviceName


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    rows: of each split. classes: training rows by class name. trainings: how often each is done,
    over all seeds. keeps: for `prune`, rows that each keep leaves. steps: of a training (of a model
    that a part of the rows is held out from: as many fewer), each of `batch_size` training rows in
    each of the `processes`; `epochs` is what they come to. A meta step of `meta_batch_size` rows is
    taken every `unroll` steps.
    """

    command: str
    output: Path
    rows: dict[str, int]
    classes: dict[str, int]
    model: str
    device: str
    seeds: list[int]
    trainings: dict[str, int]
    keeps: dict[str, int]
    steps: int
    epochs: float
    batch_size: int
    processes: int
    meta_batch_size: int
    unroll: int

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
        trainings = dict.fromkeys(names, len(recipe.seeds))
    else:
        rows = len(experiment.train)
        keeps = {f"{keep:g}": keep_count(keep, rows) for keep in recipe.prune.keep}
        trainings = _of_pruning(experiment, list(keeps))
    training, train = experiment.recipe.training, experiment.splits.train
    processes = experiment.accelerator.num_processes
    at_once = training.batch_size * training.accumulation * processes
    return Plan(
        command=command,
        output=output,
        rows=experiment.sizes,
        classes=train.class_rows(experiment.splits.classes),
        model=recipe.model.name,
        device=str(experiment.accelerator.device),
        seeds=recipe.seeds,
        trainings=trainings,
        keeps=keeps,
        steps=experiment.steps,
        epochs=experiment.steps * at_once / max(1, int((train.labels >= 0).sum())),
        batch_size=training.batch_size,
        processes=processes,
        meta_batch_size=recipe.meta.batch_size,
        unroll=recipe.meta.unroll,
    )


def _of_pruning(experiment: Experiment, keeps: list[str]) -> dict[str, int]:
    """Trainings of `prune`: what scores and trust are made of, then on what is kept."""
    recipe = experiment.recipe
    config, runs, seeds = recipe.prune, len(recipe.score_seeds), len(recipe.seeds)
    rivals = [name for name in config.scores if name != "sama"]
    found: dict[str, int] = {}
    if rivals or "auto" in (config.trust, config.order):
        found["plain, that scores look on at"] = runs
    if config.trust == "auto":
        found["with a part held out, for trust in labels"] = runs
    found["sama, for the weights"] = runs
    if config.order == "trial":
        found["trials of orders, a part held out"] = 3 * len(keeps) * runs
    if experiment.test is None:
        return {**found, f"sama at {keeps[0]}": 1}
    if "full" in config.baselines or config.verify:
        found["full"] = seeds
    names = ["random"] if "random" in config.baselines else []
    names += ["sama", *(rivals if config.verify else [])]
    times = 2 if config.verify else 1  # for as many steps, and for as many epochs
    return found | {f"{name} at {keep}": times * seeds for keep in keeps for name in names}
