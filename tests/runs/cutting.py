"""Runs of a workflow in a process of its own, which can be killed at any event."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PRELOAD = ["samacli.runs.reweight", "samacli.runs.prune", "samacli.runs.train"]


class Events:
    """Counts what happens: steps, rows predicted, and every write that is brought to the disk.

    At event number `last` the process is gone, as by `kill -9` from outside.
    """

    def __init__(self, last: int | None) -> None:
        self.last, self.count = last, 0
        self.notes: list[str] = []
        self._fsync, os.fsync = os.fsync, self._counted_fsync  # type: ignore[assignment]

    def happened(self) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def _counted_fsync(self, descriptor: int) -> None:
        self.happened()
        self._fsync(descriptor)

    @contextlib.contextmanager
    def task(self, description: str, total: int) -> Iterator[Any]:
        yield self

    def advance(self, steps: int = 1) -> None:
        self.happened()

    def expect(self, *told: Any) -> None:
        pass

    def note(self, message: str) -> None:
        self.notes.append(message)

    warn = note


def work(command: str, arguments: dict[str, Any], output: str, last: int | None, told: str) -> None:
    """The child's part: run, and leave word of the events in the file `told`."""
    import torch

    from samacli.errors import SamaError
    from samacli.recipe import load_recipe
    from samacli.runs.prune import prune
    from samacli.runs.reweight import reweight

    torch.set_num_threads(1)
    if arguments.get("roomy"):  # there seems to be space, at first
        space = shutil.disk_usage("/")._replace(free=1 << 40)
        shutil.disk_usage = lambda path: space  # type: ignore[assignment, misc]
    events = Events(last)
    recipe = load_recipe(arguments["recipe"], arguments["overrides"], arguments["values"])
    run = {"reweight": reweight, "prune": prune}[command]
    said = ""
    try:
        run(recipe, Path(output), resume=arguments["resume"], device="cpu", progress=events)
    except SamaError as error:
        said = str(error)
    report = {"events": events.count, "notes": events.notes, "error": said}
    Path(told).write_text(json.dumps(report))


def in_a_process(
    command: str, arguments: dict[str, Any], output: Path, last: int | None = None
) -> dict[str, Any] | None:
    """Run a workflow; None where the process was killed, else what it said and did."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)  # imported once, for all processes
    told = output.with_name(f"{output.name}.told")
    told.unlink(missing_ok=True)
    process = context.Process(
        target=work, args=(command, {"resume": False, **arguments}, str(output), last, str(told))
    )
    process.start()
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return None
    assert process.exitcode == 0
    found: dict[str, Any] = json.loads(told.read_text())
    return found
