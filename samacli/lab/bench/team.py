"""The parent's side: start workers, ask them, and notice when one is gone."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

from torch.distributed import TCPStore

from samacli.errors import SamaError
from samacli.lab.bench import line
from samacli.lab.bench.contenders import Contender
from samacli.lab.bench.replicas import Replica
from samacli.lab.bench.setting import Setting
from samacli.lab.bench.worker import Task, Worker, sentence

MODULE = "samacli.lab.bench.worker"
POLL_SECONDS = 0.05
GRACE_SECONDS = 10.0


class WorkerFailedError(Exception):
    """A worker is gone or has given up: who (a contender's name), and why."""

    def __init__(self, who: str, why: str) -> None:
        super().__init__(f"{who}: {why}")
        self.who = who
        self.why = why


class Asked(Protocol):
    """A worker that is ready.

    name: its contender's. facts: what it said when it was ready, see `worker.Worker.ready`.
    """

    name: str
    facts: line.Message

    def ask(self, do: str, **arguments: Any) -> list[line.Message]: ...


Starter = Callable[[TCPStore, Setting, Contender], contextlib.AbstractContextManager[Asked]]


class Member:
    """A running worker: one process, or several that do the same."""

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        log: IO[bytes],
        connection: line.Line,
        world_size: int,
    ) -> None:
        self.name = name
        self._process = process
        self._log = log
        self._line = connection
        self._world_size = world_size
        self._number = 0
        self.facts = self._answers()[0]

    def ask(self, do: str, **arguments: Any) -> list[line.Message]:
        """Each process's answer to a command.

        Raises:
            WorkerFailedError: it is gone or has given up.
            SamaError: for a reason that the user can mend.
        """
        self._number += 1
        self._line.command(self._number, {"do": do, **arguments})
        return self._answers()

    def stop(self) -> None:
        """Let it end by itself, if it can."""
        if self._process.poll() is None:
            self._line.command(self._number + 1, {"do": "stop"})

    def _answers(self) -> list[line.Message]:
        while True:
            # Asked before the answers are read: the last of them may come just before the end.
            ended = self._process.poll() is not None
            answers = self._line.answers(self._number, self._world_size)
            for answer in answers.values():
                if "error" in answer:
                    if answer["user"]:
                        raise SamaError(answer["error"])
                    raise WorkerFailedError(self.name, answer["error"])
            if len(answers) == self._world_size:
                return [answers[rank] for rank in range(self._world_size)]
            if ended:
                raise WorkerFailedError(self.name, self._last_words())
            time.sleep(POLL_SECONDS)

    def _last_words(self) -> str:
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        code = self._process.returncode
        if code == -signal.SIGKILL or re.search(r"exitcode\s*:\s*-9\b", text):
            return "killed by the system, most likely because memory ran out"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        lines = [line for line in text.splitlines() if line.strip()]
        return f"ended early: {lines[-1].strip()}" if lines else f"ended early with status {code}"


@contextlib.contextmanager
def member(store: TCPStore, setting: Setting, contender: Contender) -> Iterator[Member]:
    """A worker that is ready, for as long as the block lasts; no process outlives it.

    Raises:
        WorkerFailedError: it did not get as far as that.
        SamaError: for a reason that the user can mend.
    """
    name = uuid.uuid4().hex  # its own in the store, whose messages outlive it
    task = Task(store.port, name, setting, contender)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            _command(task),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(setting.world_size),
            start_new_session=True,  # Ctrl-C is the parent's; it ends its workers in order
        )
        try:
            connection = line.Line(store, name)
            running = Member(contender.name, process, log, connection, setting.world_size)
            yield running
            running.stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        finally:
            _end(process)


class Here:
    """A worker in this very process, which does what it is asked at once."""

    def __init__(self, name: str, worker: Worker) -> None:
        self.name = name
        self.facts = worker.ready()
        self._worker = worker

    def ask(self, do: str, **arguments: Any) -> list[line.Message]:
        """Raises WorkerFailedError or SamaError, as a worker of its own does."""
        try:
            return [getattr(self._worker, do)(**arguments)]
        except SamaError:
            raise
        except Exception as error:
            raise WorkerFailedError(self.name, sentence(error)) from None


@contextlib.contextmanager
def here(store: TCPStore, setting: Setting, contender: Contender) -> Iterator[Here]:
    """A worker in this process: no time goes on starting one, and a crash ends them all.

    Peak memory is each one's own on a GPU, whose allocator tells what is in use; a process's
    resident memory tells it less well.
    """
    try:
        replica = Replica.join(setting.device, setting.world_size)
        task = Task(store.port, contender.name, setting, contender)
        running = Here(contender.name, Worker(task, replica))
    except SamaError:
        raise
    except Exception as error:
        raise WorkerFailedError(contender.name, sentence(error)) from None
    yield running


def _command(task: Task) -> list[str]:
    python = sys.executable
    worker = ["-m", MODULE, task.to_json()]
    processes = task.setting.world_size
    if processes == 1:
        return [python, *worker]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr", line.HOST]
    return [python, *launcher, "--nproc-per-node", str(processes), *worker]


def _environment(world_size: int) -> dict[str, str]:
    """The parent's, with the processor's cores shared out and no module from where it runs."""
    launchers = ("RANK", "LOCAL_RANK", "WORLD_SIZE")  # of the parent, were it under a launcher
    environment = {name: value for name, value in os.environ.items() if name not in launchers}
    environment["PYTHONSAFEPATH"] = "1"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (cores or 1) // world_size)))
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host's name need not resolve
    return environment


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()  # the launcher hands it on to its processes
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
