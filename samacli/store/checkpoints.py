"""When a training run is saved, where, and how it is found again; and how it is asked to stop."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from safetensors import SafetensorError

from samacli.errors import Interrupted
from samacli.progress import Progress, Silent
from samacli.recipe.schema import Checkpoint
from samacli.store.tree import Tree, commit, read_tree, staging, write_tree

# Saving takes no more than this part of the time: where it is slow, it is done less often.
_MOST = 0.02
# A run that ends sooner after its last checkpoint than this part of the interval is not saved.
_LEAST = 0.1


class Saved(Protocol):
    """A run that can be saved between two of its `steps`, `step` of which are done.

    Its state has two parts: what all processes `shared`, and each one's `own`.
    """

    @property
    def step(self) -> int: ...

    @property
    def steps(self) -> int: ...

    @property
    def finished(self) -> bool: ...

    @property
    def healthy(self) -> bool:
        """Whether it is worth going on from."""
        ...

    def state_dict(self) -> Tree: ...

    def load_state_dict(self, state: Tree) -> None: ...


class Checkpoints:
    """Those of one training run, in `folder`: `step-00000120` and so on, the last `keep` of them.

    The first process writes what all have alike, each what it has for itself.

    Args:
        folder: of this run alone; made when it is first needed.
        config: the recipe's `checkpoint` section.
        accelerator: the run's.
        before: called before each save, on the first process.
        advice: how the user goes on after an interruption, for the message.
    """

    def __init__(
        self,
        folder: Path,
        config: Checkpoint,
        accelerator: Accelerator,
        *,
        before: Callable[[], None] = lambda: None,
        advice: Callable[[], str] = lambda: "",
        progress: Progress | None = None,
    ) -> None:
        self.folder, self.config, self.accelerator = folder, config, accelerator
        self.before, self.advice = before, advice
        self.progress = progress or Silent()
        self._saved_at = time.monotonic()
        self._took = 0.0

    def restore(self, state: Saved) -> None:
        """Bring `state` to the last checkpoint, or the one before where that can't be read."""
        for folder in reversed(self._existing()):
            try:
                shared = read_tree(folder, "shared")
                own = read_tree(folder, self._own)
            except (OSError, ValueError, SafetensorError) as error:
                self.progress.warn(f"the checkpoint {folder} can't be read ({error}); left out")
                continue
            state.load_state_dict({"shared": shared, "own": own})
            break
        self._saved_at = time.monotonic()

    def due(self, state: Saved) -> bool:
        """Whether it is time to save; of several processes the first one's clock counts."""
        since = time.monotonic() - self._saved_at
        every = self.config.every_seconds
        if every is not None:
            every = max(every, self._took / _MOST)
            if since >= (_LEAST * every if state.finished else every):
                return True
        steps = self.config.every_steps
        return steps is not None and (state.finished or state.step % steps == 0)

    def save(self, state: Saved) -> None:
        """Write a checkpoint; when this returns, it is on the disk.

        Raises OSError or SafetensorError where it can't be written; earlier ones are then intact.
        """
        started = time.monotonic()
        folder = self.folder / f"step-{state.step:08d}"
        stage = staging(folder)
        main = self.accelerator.is_main_process
        try:
            if main:
                self.before()
                shutil.rmtree(stage, ignore_errors=True)
                stage.mkdir(parents=True)
            self.accelerator.wait_for_everyone()
            tree = state.state_dict()
            if main:
                write_tree(stage, "shared", tree["shared"])
            write_tree(stage, self._own, tree["own"])
            self.accelerator.wait_for_everyone()
            if main:
                commit(stage, folder)
                for old in self._existing()[: -self.config.keep]:
                    shutil.rmtree(old)
        finally:
            if main:
                shutil.rmtree(stage, ignore_errors=True)
        self._saved_at = time.monotonic()
        self._took = self._saved_at - started

    def after_step(self, state: Saved, request: Request, *, due: bool) -> None:
        """Save if it is time or the user wants to stop; a state with NaN in it never.

        Raises:
            Interrupted: there was such a request.
        """
        if (due or request.signal) and state.healthy:
            self.save(state)
        if not request.signal:
            return
        name = signal.Signals(request.signal).name
        raise Interrupted(
            f"stopped by {name} after step {state.step:,} of {state.steps:,}; {self.advice()}",
            128 + request.signal,
        )

    @property
    def _own(self) -> str:
        return f"process-{self.accelerator.process_index}"

    def _existing(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))


class Request:
    """signal: of the first request to stop, 0 while there is none."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self, number: int, frame: Any) -> None:
        # Of several processes, each gets the terminal's SIGINT and the launcher's SIGTERM after it.
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number


@contextmanager
def interruptible() -> Iterator[Request]:
    """Inside, a first Ctrl-C or SIGTERM is noted; a second Ctrl-C raises KeyboardInterrupt at once.

    Python hands signals to the main thread alone; in another one nothing is changed.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
