"""The parent's side of a worker: start it, order runs, notice when it is gone, end it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable

from samacli.lab.table.plan import Cell
from samacli.lab.table.row import Row
from samacli.lab.table.task import Options, Task

MODULE = "samacli.lab.table.worker"


class RunFailedError(Exception):
    """A run gave no row; the message says why, in one sentence."""


class Slot:
    """Runs cells one after another in a process of its own, another one if that dies."""

    def __init__(self, options: Options, *, debug: bool, warn: Callable[[str], None]) -> None:
        """debug: let the process write to standard error; warn: is called with its warnings."""
        self.options = options
        self._debug, self._warn = debug, warn
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (as long as the slot)
        self._process: subprocess.Popen[str] | None = None
        self._ended = False

    def run(self, cell: Cell) -> Row:
        """Do one cell's run.

        Raises:
            RunFailedError: it failed, or the process died.
        """
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        task = Task(
            setting=cell.setting.name,
            group=cell.setting.group,
            method=cell.entry.name,
            algorithm=cell.entry.method,
            seed=cell.seed,
            digest=cell.digest,
            recipe=cell.recipe.model_dump(mode="json"),
            workflow=cell.workflow,
            keep=cell.entry.keep,
        )
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(dataclasses.asdict(task)) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                break  # cut off in the middle
            if "warning" in message:
                self._warn(f"{cell.setting.name}: {message['warning']}")
            elif "error" in message:
                raise RunFailedError(message["error"])
            else:
                return Row.from_dict(message["row"])
        process.wait()
        raise RunFailedError(self._last_words(process.returncode))

    def end(self) -> None:
        """Stop the process, whatever it is doing, and start none again."""
        self._ended = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _running(self) -> subprocess.Popen[str]:
        if self._ended:
            raise RunFailedError("it was not started")
        if self._process is None or self._process.poll() is not None:
            self._log.seek(0)
            self._log.truncate()
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULE, json.dumps(dataclasses.asdict(self.options))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if self._debug else self._log,
                text=True,
                encoding="utf-8",
                env=_environment(self.options.threads),
                start_new_session=True,  # Ctrl-C is the parent's; it ends its workers in order
            )
        return self._process

    def _last_words(self, code: int) -> str:
        if code == -signal.SIGKILL:
            return "its process was killed by SIGKILL, most likely because memory ran out"
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1].strip()}" if lines else ""
        return f"its process ended with status {code}{said}"


def _environment(threads: int) -> dict[str, str]:
    """The parent's, with the processor's cores shared out."""
    launchers = ("RANK", "LOCAL_RANK", "WORLD_SIZE")  # of the parent, were it under a launcher
    environment = {name: value for name, value in os.environ.items() if name not in launchers}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[name] = str(threads)
    environment["TOKENIZERS_PARALLELISM"] = "false"
    # Modules come from where this process has them, not from the directory that it runs in.
    environment["PYTHONSAFEPATH"] = "1"
    return environment
