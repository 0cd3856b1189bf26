"""What is kept of a run that is not finished, and going on with it.

    OUTPUT.partial/
        run.json              what was asked for: recipe, data, processes, device, versions
        elapsed.json          seconds that it has taken so far
        done/NAME/            the result of a part that is finished, its model where it is needed
        fits/NAME/FIT/        checkpoints of the part that is not (`samacli.store.checkpoints`)

It lies beside the output, on the same disk; is made when there is something to keep, and goes when
the output is there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Generic, Self, TypeVar

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import nn

import samacli
from samacli.errors import Interrupted, SamaError, counted
from samacli.progress import Progress
from samacli.recipe import Recipe
from samacli.recipe.load import flattened, result_relevant
from samacli.recipe.optimizers import state_buffers
from samacli.redact import redact_all
from samacli.store.checkpoints import Checkpoints
from samacli.store.lock import Lock
from samacli.store.random_state import random_state, restore_random_state
from samacli.store.tree import appearing, pack, read_tree, unpack, write_tree

Result = TypeVar("Result")


@dataclass(frozen=True)
class Part(Generic[Result]):
    """A part of a run: `part.result or part.finish(compute())`.

    result: of one that was finished before, else None. finish: keeps what it gave.
    """

    result: Result | None
    finish: Callable[[Result], Result] = lambda result: result


class Recovery:
    """The unfinished run beside one output: `with Recovery(…) as recovery`, around all the work.

    Inside, a full disk, Ctrl-C and SIGTERM end the run with a sentence that says how to go on.

    Args:
        command: its name, "reweight" say.
        output: where the results are to be.
        recipe: with its paths resolved.
        resume: go on with what is there; without it an unfinished run is refused, or replaced if
            `overwrite`.

    Raises:
        SamaError: there is an unfinished run and neither is set; or it is another recipe's; or
            another command is at work on the output.
    """

    def __init__(
        self,
        command: str,
        output: Path,
        recipe: Recipe,
        *,
        resume: bool,
        overwrite: bool,
        progress: Progress,
    ) -> None:
        self._output, self.folder = output, unfinished(output)
        self.recipe, self.progress = recipe, progress
        self._asked: dict[str, Any] = {
            "command": command,
            "recipe": redact_all(result_relevant(recipe.model_dump(mode="json"))),
            "versions": {
                "samacli": samacli.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
        self._part = ""
        self._known: set[str] = set()
        self._began = time.monotonic()
        self._found: dict[str, Any] | None = None
        self._accelerator: Accelerator | None = None
        self._lock = Lock()
        self._be_alone()
        try:
            self._find(resume=resume, overwrite=overwrite)
        except BaseException:
            self._lock.release()
            raise

    def _find(self, *, resume: bool, overwrite: bool) -> None:
        """An unfinished run of this output, if there is one."""
        there = (self.folder / "run.json").is_file()
        if there and not resume and not overwrite:
            raise SamaError(
                f"'{self.folder}' holds an unfinished run of this output; add --resume to go on "
                "with it, or --overwrite to start anew without it"
            )
        if resume and there:
            self._found = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
            with contextlib.suppress(OSError, ValueError):
                seconds = json.loads((self.folder / "elapsed.json").read_text(encoding="utf-8"))
                self._began -= seconds
            self._same_request(self._found)
        elif resume:
            self.progress.note(
                f"there is no unfinished run '{self.folder}'; starting at the beginning"
            )

    @property
    def seconds(self) -> float:
        """Since the run began, what lay between its processes left out."""
        return time.monotonic() - self._began

    def begin(
        self,
        accelerator: Accelerator,
        settled: Recipe,
        data: Mapping[str, str],
        *,
        model_bytes: int,
        data_bytes: int,
    ) -> None:
        """The data are read: compare them with the unfinished run's, and look at the disk.

        settled: the recipe without `auto`s of model and training.
        data: fingerprints of all that the result depends on, by the name of a message.
        model_bytes, data_bytes: of one model and of the training rows, about as they are written.

        Raises:
            SamaError: data, device or number of processes are others; or the disk is too small.
        """
        self._accelerator = accelerator
        self._asked |= {
            "data": dict(data),
            "processes": accelerator.num_processes,
            "device": accelerator.device.type,
        }
        if self._found is not None:
            self._same_data(self._found)
        elif accelerator.is_main_process:
            shutil.rmtree(self.folder, ignore_errors=True)
        accelerator.wait_for_everyone()
        _check_disk(self.folder.parent, settled, model_bytes, data_bytes)

    def checkpoints(self, description: str) -> Checkpoints:
        """Of the run of the training loop so described, within the part at hand."""
        assert self._accelerator is not None
        folder = self.folder / "fits" / self._part / self._single(f"{self._part}/{description}")
        return Checkpoints(
            folder,
            self.recipe.checkpoint,
            self._accelerator,
            before=self._open,
            advice=self.advice,
            progress=self.progress,
        )

    def part(
        self,
        name: str,
        kind: type[Result],
        *,
        new_model: Callable[[], nn.Module] | None = None,
    ) -> Part[Result]:
        """A part of the run, whose result is there if it was finished before the run was cut off.

        Parts may have parts. Where the part around it goes on, the random state is then the one
        that it left behind.

        name: of this part, a single one. kind: a dataclass for `pack`. new_model: makes one like
        its field `model`, the only one that holds one, where that is needed afterwards.
        """
        accelerator = self._accelerator
        assert accelerator is not None
        part = self._single(name)
        folder = self.folder / "done" / part
        found = self._read(folder)
        if found is not None:
            result = unpack(kind, found["result"])
            if found["model"] is not None and new_model is not None:
                model = new_model()
                model.load_state_dict(found["model"])
                result = replace(result, model=model)
            if found["within"] == self._part:
                restore_random_state(found["random"], accelerator.device)
            self.progress.note(f"{name}: finished before")
            return Part(result)
        outer, self._part = self._part, part

        def finish(result: Result) -> Result:
            self._part = outer
            if accelerator.is_main_process:
                self._open()
                kept = None if new_model is None else getattr(result, "model", None)
                tree = {
                    "result": pack(result),
                    "model": None if kept is None else dict(kept.state_dict()),
                    "within": outer,
                    "random": random_state(accelerator.device),
                }
                with appearing(folder) as stage:
                    write_tree(stage, "result", tree)
                shutil.rmtree(self.folder / "fits" / part, ignore_errors=True)
            accelerator.wait_for_everyone()
            return result

        return Part(None, finish)

    def _read(self, folder: Path) -> Any:
        """A finished part's result; None where there is none that can be read."""
        if self._found is None or not folder.is_dir():
            return None
        try:
            return read_tree(folder, "result")
        except (OSError, ValueError, SafetensorError) as error:
            self.progress.warn(f"{folder} can't be read ({error}), so that part is done again")
            return None

    def finish(self) -> None:
        """The output is there, and this is needed no more."""
        assert self._accelerator is not None
        if self._accelerator.is_main_process:
            shutil.rmtree(self.folder, ignore_errors=True)

    def advice(self) -> str:
        """How to go on, as the end of a sentence."""
        return advice(self._output)

    def __enter__(self) -> Self:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"interrupted; {self.advice()}", 128 + signal.SIGINT) from None
        if isinstance(error, OSError | SafetensorError) and _is_full(error):
            raise SamaError(
                f"no space is left in '{self.folder.parent}'; free some: {self.advice()}"
            ) from error

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        raise Interrupted(f"stopped by SIGTERM; {self.advice()}", 128 + number)

    def _open(self) -> None:
        """Make the folder, where that has not been done; keep the time."""
        if self._found is None:
            with appearing(self.folder) as stage:
                text = json.dumps(self._asked, indent=2, ensure_ascii=False)
                (stage / "run.json").write_text(text, encoding="utf-8")
            self._found = self._asked
        (self.folder / "elapsed.json").write_text(json.dumps(self.seconds), encoding="utf-8")

    def _be_alone(self) -> None:
        """Keep others away from this output, from before anything is read.

        Raises:
            SamaError: somebody else does.
        """
        if int(os.environ.get("RANK", "0")) > 0:  # the first of several processes does it for all
            return
        if not self._lock.take(self._output.with_name(f".{self._output.name}.lock")):
            raise SamaError(
                f"another command is at work on '{self.folder}'; wait for it, stop it, or name "
                "another --output"
            )

    def _single(self, name: str) -> str:
        """A file name for `name`, which must come once."""
        if name in self._known:
            raise ValueError(f"two parts of a run are called '{name}'")
        self._known.add(name)
        return re.sub(r"[^\w.+-]+", "-", name.rsplit("/", 1)[-1])

    def _same_request(self, found: dict[str, Any]) -> None:
        if found["command"] != self._asked["command"]:
            raise SamaError(
                f"--resume: '{self.folder}' is an unfinished run of sama {found['command']}; go on "
                "with that, or start anew with --overwrite"
            )
        # Keys that have come with a newer version count as having had their defaults.
        defaults = flattened(Recipe().model_dump(mode="json"))
        ours = defaults | flattened(self._asked["recipe"])
        theirs = defaults | flattened(result_relevant(found["recipe"]))
        keys = [key for key in theirs | ours if ours.get(key) != theirs.get(key)]
        if keys:
            more = (
                f" ({counted(len(keys) - 1, 'more value differs', 'more values differ')})"
                if len(keys) > 1
                else ""
            )
            raise SamaError(
                f"--resume: {keys[0]} is {json.dumps(ours.get(keys[0]))} here and "
                f"{json.dumps(theirs.get(keys[0]))} in the unfinished run '{self.folder}'{more}; "
                "give the same recipe, or start anew with --overwrite"
            )
        for name, version in self._asked["versions"].items():
            if found["versions"][name] != version:
                self.progress.warn(
                    f"the unfinished run was begun with {name} {found['versions'][name]}, and this "
                    f"is {version}: its result may differ from an uninterrupted one's"
                )

    def _same_data(self, found: dict[str, Any]) -> None:
        for key, what in (("processes", "number of processes"), ("device", "device")):
            if found[key] != self._asked[key]:
                raise SamaError(
                    f"--resume: the {what} is {self._asked[key]} here and {found[key]} in the "
                    f"unfinished run '{self.folder}'; take the same, or start anew with --overwrite"
                )
        ours, theirs = self._asked["data"], found["data"]
        other = [name for name in {**theirs, **ours} if ours.get(name) != theirs.get(name)]
        if other:
            raise SamaError(
                f"--resume: the data have changed since the unfinished run '{self.folder}' was "
                f"begun: {' and '.join(other)}; bring them back, or start anew with --overwrite"
            )


def unfinished(output: Path) -> Path:
    """Where what is kept of an unfinished run lies."""
    return output.with_name(f"{output.name}.partial")


def advice(output: Path) -> str:
    """How to go on with a run that ended before its output was there, as the end of a sentence."""
    folder = unfinished(output)
    if not (folder / "run.json").is_file():
        return "nothing was written"
    return (
        f"what was done is kept in '{folder}', and the same command with --resume goes on from "
        "there"
    )


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    words = ("No space left", "quota exceeded", "File too large")
    return any(word in str(error) for word in words)


def _check_disk(folder: Path, recipe: Recipe, model_bytes: int, data_bytes: int) -> None:
    """Refuse, before any training, a disk that checkpoints and results would fill."""
    free = shutil.disk_usage(folder).free
    results = model_bytes + data_bytes
    saving = recipe.checkpoint
    kept = 0.0
    if saving.every_seconds is not None or saving.every_steps is not None:
        # Model, moving average, moments, direction of a meta step; one more while it is written.
        optimizer = recipe.training.optimizer
        moments = state_buffers(optimizer.name, optimizer.given)
        buffers = 3 + moments + (2 if recipe.training.early_stopping else 0)
        kept = model_bytes * buffers * (saving.keep + 1)
    if free < results + kept:
        raise SamaError(
            f"'{folder}' has {_size(free)} left, and the run may take {_size(results + kept)} "
            f"({_size(kept)} of it checkpoints); free some space, name another --output, or save "
            "less (checkpoint.keep=1, or checkpoint.every_seconds=null for none)"
        )


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
