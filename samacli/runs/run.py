"""What `reweight`, `prune` and `train` do alike: open a run, and write what came of it.

with open_run("reweight", recipe, output) as run:   # output and recipe checked, data encoded
    run.begin()                                     # what an unfinished run did is there again
    …                                               # training, by `run.experiment`
    if run.writes:
        with run.stage() as stage:
            …                                       # files, which appear together
"""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import accelerate
import datasets
import numpy as np
import pyarrow as pa
import torch
import transformers
from transformers import PreTrainedModel

import samacli
from samacli.bilevel.scored import Summary
from samacli.data.names import row_names
from samacli.data.split import fingerprints
from samacli.data.table import Table, quiet_datasets
from samacli.export.dataset import clean_rows, write_dataset
from samacli.export.metrics import class_names, known_numbers, write_metrics, write_scores
from samacli.export.suspects import Suspects, write_suspects
from samacli.export.training_curves import (
    LEARNING_FILE,
    WEIGHT_FILE,
    Curve,
    write_learning,
    write_weight_functions,
)
from samacli.models import save_model
from samacli.progress import Planned, Progress, Silent
from samacli.recipe import Recipe, dump_recipe, resolve_paths
from samacli.report import REPORT_FILE, build_report
from samacli.runs.auto import auto_values
from samacli.runs.estimate import estimate, plan_line
from samacli.runs.opening import opening_lines
from samacli.store.output import METRICS_FILE, RECIPE_FILE, check_output, staged
from samacli.store.unfinished import Recovery
from samacli.training.experiment import Experiment
from samacli.training.runtime import DeviceName


class How(TypedDict, total=False):
    """How a run is opened.

    overwrite: replace a finished or an unfinished run (default: refuse). resume: go on with an
    unfinished one. device: default "auto". progress: told what goes on; default: silence.
    tables: rows that a program has already, by the name that the recipe calls them.
    """

    overwrite: bool
    resume: bool
    device: DeviceName
    progress: Progress | None
    tables: Mapping[str, Table] | None


@dataclass(frozen=True)
class Run:
    """A command's run on its way from a recipe to an output. Made by `open_run`.

    recipe: with its paths resolved, and without the `auto`s that are settled in preparing it.
    overwrite: whether the output may be replaced.
    """

    command: str
    recipe: Recipe
    experiment: Experiment
    recovery: Recovery
    output: Path
    overwrite: bool

    def begin(self, **arrays: np.ndarray | None) -> None:
        """All is checked: go on with what is unfinished, or start; see `Experiment.begin`."""
        self.experiment.begin(self.recovery, **arrays)

    def expect(self, trainings: Sequence[Planned]) -> None:
        """Tell who waits what will be trained, how long that may take, and what `auto` is."""
        progress = self.experiment.progress
        if isinstance(progress, Silent):  # nobody does
            return
        found = estimate(self.experiment, trainings)
        auto = auto_values(self.experiment, self.command)
        progress.note(plan_line(trainings, found, auto))
        progress.expect(trainings, found.seconds_a_row)

    @property
    def writes(self) -> bool:
        """Whether this is the one of several processes that writes."""
        return bool(self.experiment.accelerator.is_main_process)

    @functools.cached_property
    def names(self) -> list[str | None] | None:
        """What the training rows are called, see `row_names`."""
        splits = self.experiment.splits
        return row_names(splits.train, splits.columns, splits.task)

    def stage(self) -> contextlib.AbstractContextManager[Path]:
        """A folder to write into, which becomes the output when the block ends well."""
        return staged(self.output, overwrite=self.overwrite)

    def metrics(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """`metrics.json`: what every run tells, around what is its command's own."""
        accelerator = self.experiment.accelerator
        return {
            "workflow": self.command,
            "seeds": self.recipe.seeds,
            "steps": self.experiment.steps,
            "rows": self.experiment.sizes,
            **own,
            "processes": accelerator.num_processes,
            "overlaps": self.experiment.splits.overlaps,
            "fingerprints": fingerprints(self.experiment.splits),
            "environment": environment(accelerator.device),
        }

    def score_columns(self, summary: Summary) -> dict[str, Any]:
        """The first columns of `scores.parquet`: of each training row, what was learnt of it."""
        splits = self.experiment.splits
        train, classes = splits.train, splits.classes
        return {
            "index": train.index,
            **({} if self.names is None else {"id": pa.array(self.names, pa.string())}),
            "given_label": class_names(train.labels, classes),
            "prediction": class_names(summary.prediction, classes),
            "loss": summary.loss.astype(np.float32),
            "uncertainty": summary.uncertainty.astype(np.float32),
            "weight": summary.weight.astype(np.float32),
            **({} if summary.slope is None else {"slope": summary.slope.astype(np.float32)}),
            **({} if (value := summary.value) is None else {"value": known_numbers(value)}),
            **({} if splits.noisy_rows is None else {"clean_row": clean_rows(splits)}),
        }

    def write(self, stage: Path, model: PreTrainedModel, metrics: dict[str, Any]) -> None:
        """Write recipe, model and metrics."""
        reasons = [f"# {one.key} was auto: {one.why}" for one in self.experiment.settled]
        text = "\n".join([*reasons, dump_recipe(self.recipe)])
        (stage / RECIPE_FILE).write_text(text, encoding="utf-8")
        save_model(model, self.experiment.processor, stage / "model")
        write_metrics(stage / METRICS_FILE, metrics)

    def write_all(
        self,
        stage: Path,
        summary: Summary,
        *,
        rows: datasets.Dataset,
        card: str,
        scores: dict[str, Any],
        model: PreTrainedModel,
        metrics: dict[str, Any],
        curves: Mapping[str, Sequence[Curve]],
    ) -> int:
        """Write what was learnt of the rows too, and the report; returns the number of suspects.

        rows, card: the exported dataset; scores: columns of `scores.parquet`, a row an input row;
        curves: learning curves of each training, one a seed (of pruning's scores, one a run).
        """
        splits, seed = self.experiment.splits, self.recipe.seed
        columns = self.experiment.example_columns
        write_dataset(rows, stage / "dataset", card)
        write_scores(stage / "scores.parquet", scores)
        found = Suspects(
            index=splits.train.index,
            # A row that the clean set has too is not suspected: its label is known.
            given=np.where(splits.clean_twins >= 0, -1, splits.train.labels),
            suggested=summary.prediction if summary.corrected is None else summary.corrected,
            weight=summary.weight,
            loss=summary.loss,
            probability=summary.mislabelled,
        )
        suspects = write_suspects(
            stage / "suspects.csv",
            found,
            splits.train.rows,
            splits.classes,
            names=self.names,
            **columns,
        )
        write_learning(stage / LEARNING_FILE, curves, seed)
        write_weight_functions(stage / WEIGHT_FILE, summary.weight_functions, splits.classes, seed)
        told = {"suspects": suspects, "classes": splits.classes, "columns": columns}
        self.write(stage, model, {**metrics, **told})
        try:
            build_report(stage)
        except Exception as error:  # it is made of the files alone: hours of training are not lost
            self.experiment.progress.warn(
                f"{REPORT_FILE} could not be made ({type(error).__name__}: {error}); everything "
                "else is written, and `sama report DIR` tries again"
            )
        return suspects


@contextlib.contextmanager
def open_run(command: str, recipe: Recipe, output: Path, **how: Unpack[How]) -> Iterator[Run]:
    """A run of `recipe` whose data are read; its results come to `output` whole or not at all.

    Until it is finished, what was done is kept beside `output` (`Recovery`).

    Raises:
        SamaError: anything wrong with the recipe, its data, or `output`.
        Interrupted: by Ctrl-C or SIGTERM.
    """
    progress = how.get("progress") or Silent()
    overwrite = how.get("overwrite", False)
    check_output(output, overwrite=overwrite)
    recipe = resolve_paths(recipe)
    recovery = Recovery(
        command,
        output,
        recipe,
        resume=how.get("resume", False),
        overwrite=overwrite,
        progress=progress,
    )
    with recovery, quiet_datasets():
        experiment = Experiment.prepare(
            recipe,
            device=how.get("device", "auto"),
            progress=progress,
            tables=how.get("tables"),
        )
        if command != "train":  # whose data are a finished run's
            for line in opening_lines(experiment.splits):
                progress.note(line)
        yield Run(command, experiment.recipe, experiment, recovery, output, overwrite)
        experiment.accelerator.end_training()
        recovery.finish()


def environment(device: torch.device) -> dict[str, str]:
    """The versions and the device that a result was made with."""
    libraries = (samacli, torch, transformers, datasets, accelerate, np)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {
        **{library.__name__: library.__version__ for library in libraries},
        "python": platform.python_version(),
        "device": name,
        "threads": str(torch.get_num_threads()),
    }
