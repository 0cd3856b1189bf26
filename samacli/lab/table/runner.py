"""What does the runs of a table, in a worker's process.

Libraries load once, the code of a table is that of its start, and runs of one setting share the
data that were read and encoded.
"""

from __future__ import annotations

import dataclasses
import datetime
import gc
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

import samacli
from samacli.lab.table.code import code_of
from samacli.lab.table.draws import dealt
from samacli.lab.table.plan import Cell, concerning, digest, where
from samacli.lab.table.rows import Arrays, Row, ScoreCache
from samacli.lab.workers import processor_name
from samacli.methods import MethodRun, run_method
from samacli.progress import Silent
from samacli.recipe import Recipe, resolve_paths
from samacli.runs.prune.methods import PRUNING_METHODS, SCORING, retrain_on
from samacli.training.experiment import Experiment
from samacli.training.runtime import DeviceName


@dataclass(frozen=True)
class Options:
    """What all the runs of a table have in common.

    jobs: workers beside each other. scores: the folder that keeps what scoring runs found, of a
    table of subsets.
    """

    device: DeviceName
    threads: int
    jobs: int
    scores: Path | None = None


class Runner:
    """Holds the data of the last run's setting for the next."""

    def __init__(self, options: Options, warn: Callable[[str], None]) -> None:
        self.options = options
        self.commit = _commit()
        self._progress = _Forwarded(warn)
        self._prepared: tuple[str, Experiment] | None = None
        self._scores = ScoreCache(options.scores)

    def run(self, cell: Cell) -> Row:
        """Do a cell's run and say what was measured.

        Raises:
            SamaError: anything wrong with its recipe, data or model.
        """
        recipe = resolve_paths(cell.recipe)
        experiment = self._experiment(recipe, cell.dealt)
        name, seed = cell.entry.method, cell.seed
        if cell.workflow == "reweight":
            return self._row(cell, experiment, lambda: run_method(experiment, name, seed))
        scoring = PRUNING_METHODS[name].scoring
        arrays: Arrays = {}
        if scoring is not None:
            concerned = digest(concerning("prune", recipe, scoring))
            row, arrays = self._scores.get(
                f"{scoring}-{concerned}-{seed}", lambda: self._score(cell, experiment, scoring)
            )
            if scoring == name:
                return dataclasses.replace(row, **cell.names)
        keep = cell.entry.keep
        return self._row(cell, experiment, lambda: retrain_on(experiment, name, keep, seed, arrays))

    def _score(self, cell: Cell, experiment: Experiment, scoring: str) -> tuple[Row, Arrays]:
        arrays: Arrays = {}

        def work() -> MethodRun:
            run, found = SCORING[scoring](experiment, cell.seed)
            arrays.update(found)
            return run

        return self._row(cell, experiment, work), arrays

    def _row(self, cell: Cell, experiment: Experiment, work: Callable[[], MethodRun]) -> Row:
        """Do the work, and say what was measured."""
        started = time.perf_counter()
        run = work()
        wall = time.perf_counter() - started
        device = experiment.accelerator.device
        on_gpu = device.type == "cuda"
        evaluation = run.evaluation
        return Row(
            **cell.names,
            accuracy=None if evaluation is None else evaluation.accuracy,
            macro_f1=None if evaluation is None else evaluation.macro_f1,
            recall=None if evaluation is None else {c.name: c.recall for c in evaluation.classes},
            noise=None if run.noise is None else {k: float(v) for k, v in run.noise.items()},
            seconds=run.seconds,
            wall_seconds=wall,
            steps=run.steps,
            samples_per_second=run.samples_per_second,
            peak_memory_bytes=run.peak_memory_bytes,
            rows=experiment.sizes,
            device=device.type,
            device_name=torch.cuda.get_device_name(device) if on_gpu else processor_name(),
            precision="bf16" if experiment.accelerator.mixed_precision == "bf16" else "fp32",
            threads=torch.get_num_threads(),
            jobs=self.options.jobs,
            torch=torch.__version__,
            transformers=transformers.__version__,
            samacli=samacli.__version__,
            commit=self.commit,
            finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            parts=run.parts,
            rows_seen=run.rows_seen,
            code=code_of(where(cell.workflow, cell.entry.method)),
        )

    def _experiment(self, recipe: Recipe, deal: bool) -> Experiment:
        """The recipe made ready, from the last one's data where both read the same."""
        # How long it trains is of a run, not of the data.
        training = recipe.training.model_copy(update={"steps": None, "epochs": 1.0})
        reading = recipe.model_copy(update={"training": training})
        reads = reading.model_dump_json(include={"task", "data", "model", "training"})
        reads = f"{reads} {deal}"
        if self._prepared is None or self._prepared[0] != reads:
            self._prepared = None  # before the next one's data are read, not beside them
            gc.collect()
            ready = Experiment.prepare(
                recipe,
                device=self.options.device,
                progress=self._progress,
                tables=dealt(recipe.data, recipe.data.seed) if deal else None,
            )
            self._prepared = reads, ready
        return dataclasses.replace(self._prepared[1], recipe=recipe)


class _Forwarded(Silent):
    """Warnings go to the parent; nobody watches the rest."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._tell = warn

    def warn(self, message: str) -> None:
        self._tell(message)


def _commit() -> str | None:
    """The checkout's commit, with a + where the package or its recipes were changed since."""
    root = Path(samacli.__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=root, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        commit = git("rev-parse", "--short", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "--", "samacli", "recipes") else "")
    except (OSError, subprocess.CalledProcessError):
        return None  # installed from a wheel
