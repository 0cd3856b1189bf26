"""When a training run is saved, where, and how it is found again."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator
from safetensors import SafetensorError

from samacli.errors import Interrupted
from samacli.progress import Progress, Silent
from samacli.recipe.schema import Checkpoint
from samacli.store.interruption import Request
from samacli.store.tree import commit, read_tree, staging, write_tree
from samacli.training.fit_state import FitState

# Saving takes no more than this part of the time: where it is slow, it is done less often.
_MOST = 0.02
# A run that ends sooner after its last checkpoint than this part of the interval is not saved.
_LEAST = 0.1


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

    def restore(self, state: FitState) -> None:
        """Bring `state` to the last checkpoint, or the one before where that can't be read."""
        for folder in reversed(self._existing()):
            try:
                shared = read_tree(folder, "shared")
                own = read_tree(folder, self._own)
            except (OSError, ValueError, SafetensorError) as error:
                self.progress.warn(f"the checkpoint {folder} can't be read ({error}); left out")
                continue
            state.restore(shared, own)
            break
        self._saved_at = time.monotonic()

    def due(self, state: FitState) -> bool:
        """Whether it is time to save; of several processes the first one's clock counts."""
        since = time.monotonic() - self._saved_at
        every = self.config.every_seconds
        if every is not None:
            every = max(every, self._took / _MOST)
            if since >= (_LEAST * every if state.finished else every):
                return True
        steps = self.config.every_steps
        return steps is not None and (state.finished or state.step % steps == 0)

    def save(self, state: FitState) -> None:
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
            if main:
                write_tree(stage, "shared", state.shared())
            write_tree(stage, self._own, state.own())
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

    def after_step(self, state: FitState, request: Request, *, due: bool) -> None:
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
