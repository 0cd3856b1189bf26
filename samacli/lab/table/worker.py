"""A process that does the runs of a table, one after another: python -m … OPTIONS_AS_JSON.

It reads a line of JSON for each run on standard input and answers with one on standard output.
One process does all the runs of its slot: libraries load once, the code of a table is that of its
start, and runs of one setting share the data that were read and encoded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
import transformers

import samacli
from samacli.errors import SamaError
from samacli.lab.bench.row import processor_name
from samacli.lab.table.kind import concerning, digest
from samacli.lab.table.row import Row
from samacli.lab.table.score_cache import ScoreCache
from samacli.lab.table.task import Options, Task
from samacli.methods import MethodRun, run_method
from samacli.progress import Silent
from samacli.recipe import Recipe, resolve_paths
from samacli.runs.prune.methods import PRUNING_METHODS, SCORING, Arrays, retrain_on
from samacli.training.experiment import Experiment

PARENT_POLL_SECONDS = 1.0


class Worker:
    """Holds the data of the last run's setting for the next."""

    def __init__(self, options: Options, answers: IO[str]) -> None:
        self.options = options
        self.commit = _commit()
        self._answers = answers
        self._prepared: tuple[str, Experiment] | None = None
        self._scores = ScoreCache(None if options.scores is None else Path(options.scores))

    def answer(self, **message: Any) -> None:
        """Send one line to the parent."""
        self._answers.write(json.dumps(message, allow_nan=False) + "\n")
        self._answers.flush()

    def run(self, task: Task) -> Row:
        """Do a run and say what was measured.

        Raises:
            SamaError: anything wrong with its recipe, data or model.
        """
        recipe = resolve_paths(Recipe.model_validate(task.recipe))
        experiment = self._experiment(recipe)
        if task.workflow == "prune":
            return self._pruned(task, recipe, experiment)
        return self._row(
            task, experiment, lambda: run_method(experiment, task.algorithm, task.seed)
        )

    def _pruned(self, task: Task, recipe: Recipe, experiment: Experiment) -> Row:
        """A scoring run, or a retraining on what it found."""
        scoring = PRUNING_METHODS[task.algorithm].scoring
        arrays: Arrays = {}
        if scoring is not None:

            def score() -> tuple[Row, Arrays]:
                found: list[Arrays] = []

                def work() -> MethodRun:
                    run, arrays = SCORING[scoring](experiment, task.seed)
                    found.append(arrays)
                    return run

                return self._row(task, experiment, work), found[0]

            concerned = digest(concerning("prune", recipe, scoring))
            row, arrays = self._scores.get(f"{scoring}-{concerned}-{task.seed}", score)
            if scoring == task.algorithm:
                return dataclasses.replace(row, **task.names)
        return self._row(
            task,
            experiment,
            lambda: retrain_on(experiment, task.algorithm, task.keep, task.seed, arrays),
        )

    def _row(self, task: Task, experiment: Experiment, work: Callable[[], MethodRun]) -> Row:
        """Do the work, and say what was measured."""
        started = time.perf_counter()
        run = work()
        wall = time.perf_counter() - started
        device = experiment.accelerator.device
        on_gpu = device.type == "cuda"
        evaluation = run.evaluation
        return Row(
            **task.names,
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
        )

    def _experiment(self, recipe: Recipe) -> Experiment:
        """The recipe made ready, from the last one's data where both read the same."""
        reads = recipe.model_dump_json(include={"task", "data", "model", "training"})
        if self._prepared is None or self._prepared[0] != reads:
            self._prepared = None  # before the next one's data are read, not beside them
            gc.collect()
            progress = _Forwarded(self)
            self._prepared = (
                reads,
                Experiment.prepare(recipe, device=self.options.device, progress=progress),
            )
        return dataclasses.replace(self._prepared[1], recipe=recipe)


class _Forwarded(Silent):
    """Warnings go to the parent; nobody watches the rest."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def warn(self, message: str) -> None:
        self._worker.answer(warning=message)


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


def _end_with(parent: int) -> None:
    """End when the parent is gone, killed even: nobody would take the result."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Answer tasks until standard input ends."""
    parent = os.getppid()
    options = Options(**json.loads(sys.argv[1]))
    # What libraries print must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    warnings.filterwarnings("ignore")
    for name in ("transformers", "huggingface_hub", "datasets", "accelerate", "torch", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(options.threads)
    _end_with(parent)
    worker = Worker(options, answers)
    for line in sys.stdin:
        try:
            message: dict[str, Any] = {"row": worker.run(Task(**json.loads(line))).as_dict()}
        except SamaError as error:
            message = {"error": str(error)}
        except Exception as error:
            traceback.print_exc()
            text = " ".join(str(error).split()) or "no message"
            message = {"error": f"{type(error).__name__}: {text} (a bug; --debug shows where)"}
        gc.collect()
        with contextlib.suppress(BrokenPipeError):
            worker.answer(**message)


if __name__ == "__main__":
    main()
