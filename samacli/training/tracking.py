"""Trackers of runs (TensorBoard, trackio, wandb), through Accelerate; off unless asked for."""

from __future__ import annotations

import importlib.util
import math
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import filter_trackers

from samacli.errors import SamaError
from samacli.recipe.load import flattened
from samacli.redact import redact
from samacli.training.metrics import Evaluation

PROJECT = "samacli"
_PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
# Steps told so far: trackers want numbers that rise, and several runs follow each other.
_TOLD: weakref.WeakKeyDictionary[Accelerator, int] = weakref.WeakKeyDictionary()


def check_trackers(names: Sequence[str]) -> None:
    """Refuse, before any work is done, a tracker whose package is missing.

    Raises:
        SamaError: names it, and how it is installed.
    """
    for name in names:
        packages = _PACKAGES[name]
        if not any(importlib.util.find_spec(package) for package in packages):
            raise SamaError(
                f"the tracker '{name}' takes the package {' or '.join(packages)}, which is not "
                f"installed; run pip install {packages[0]}, or leave --track out"
            )


def start_tracking(
    accelerator: Accelerator, names: Sequence[str], folder: Path, settings: Mapping[str, Any]
) -> None:
    """Have `accelerator` tell these trackers what is logged from now on; nothing without names.

    folder: of files that a tracker writes; each call makes one in it, named by the time.
    settings: what the run was told, nested; kept by the trackers, without secrets.
    """
    if not names:
        return
    place = folder / time.strftime("%Y%m%d-%H%M%S")
    accelerator.log_with = filter_trackers(list(names), str(place))
    accelerator.project_configuration.logging_dir = str(place)
    told = {  # what every tracker takes
        key: value if isinstance(value, bool | int | float) else redact(str(value))
        for key, value in flattened(settings).items()
    }
    if "wandb" in names:  # which writes where the command was started, unless there is a folder
        place.mkdir(parents=True, exist_ok=True)
    accelerator.init_trackers(PROJECT, config=told, init_kwargs={"wandb": {"dir": str(place)}})


def track_step(accelerator: Accelerator, run: str, loss: float, meta_loss: float) -> None:
    """Tell the losses of one optimiser step, in nats; the meta loss is NaN where none was taken."""
    if accelerator.trackers:
        values = {f"{run}/base loss": loss, f"{run}/meta loss": meta_loss}
        step = _TOLD[accelerator] = _TOLD.get(accelerator, 0) + 1
        accelerator.log({k: v for k, v in values.items() if not math.isnan(v)}, step=step)


def track_evaluation(accelerator: Accelerator, run: str, evaluation: Evaluation | None) -> None:
    """Tell a finished run's accuracy and macro-F1 on the test split, if there is one."""
    if accelerator.trackers and evaluation is not None:
        values = {f"{run}/accuracy": evaluation.accuracy, f"{run}/macro-F1": evaluation.macro_f1}
        accelerator.log(values, step=_TOLD.get(accelerator, 0))
