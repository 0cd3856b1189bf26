"""Objects that live in processes of their own and are asked one thing at a time.

A pool (concurrent.futures, joblib's loky) is no equivalent: losing one process breaks it whole, and
none tells what that process wrote last, gives a task to the process that holds its data, or has
several ranks do one task together.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import platform
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, Self

from samacli.errors import SamaError

MEETING = "SAMA_LAB_MEETING"  # of several ranks: the file by which torch's process group meets
OUT_OF_MEMORY = "out of memory"
GRACE_SECONDS = 10.0
PARENT_POLL_SECONDS = 1.0
_LOUD = ("transformers", "huggingface_hub", "datasets", "accelerate", "torch", "httpx")


class WorkerFailedError(Exception):
    """A worker is gone or has given up: who (the worker's name), and why."""

    def __init__(self, who: str, why: str) -> None:
        super().__init__(f"{who}: {why}")
        self.who, self.why = who, why


class Worker:
    """The object `make(*arguments)` in another process, or in each of several ranks.

    As a context it is left in good order at the end, and at once when something is raised. No
    process outlives this one.

    Args:
        make: a class or function that its process can import.
        threads: of each process; default: the cores shared out among the ranks.
        debug: let the processes write to standard error.
        warn: where given, `make` gets a `warn` of its own, whose messages come here.
    """

    def __init__(
        self,
        name: str,
        make: Callable[..., object],
        *arguments: object,
        ranks: int = 1,
        threads: int | None = None,
        debug: bool = False,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.name = name
        self._warn = warn
        self._said: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
        self._folder = tempfile.TemporaryDirectory()
        self.processes: list[subprocess.Popen[bytes]] = []
        for rank in range(ranks):
            with self._log(rank).open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-c", f"from {__name__} import serve; serve()"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=None if debug else log,
                    env=_environment(rank, ranks, threads, Path(self._folder.name)),
                    start_new_session=True,  # Ctrl-C is the parent's; it ends its workers in order
                )
            self.processes.append(process)
            threading.Thread(target=self._listen, args=(rank, process.stdout), daemon=True).start()
        self._tell((make, arguments, warn is not None))

    @property
    def alive(self) -> bool:
        return all(process.poll() is None for process in self.processes)

    def ask(self, method: str, **named: object) -> list[Any]:
        """What the object's method returned, in each rank.

        Raises:
            WorkerFailedError: a process is gone, or the method raised.
            SamaError: the method did: the user can mend it.
        """
        self._tell((method, named))
        found: dict[int, Any] = {}
        while len(found) < len(self.processes):
            rank, kind, value = self._said.get()
            if kind == "answer":
                found[rank] = value
            elif kind == "warning":
                assert self._warn is not None
                self._warn(value)
            elif kind == "mend":
                raise SamaError(value)
            else:
                raise WorkerFailedError(self.name, self._why(rank, value))
        return [found[rank] for rank in range(len(self.processes))]

    def end(self) -> None:
        """Stop the processes, whatever they are doing."""
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    if hasattr(os, "killpg"):  # with the processes that it started
                        os.killpg(process.pid, signal.SIGKILL)
                    else:
                        process.kill()
            process.wait()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            deadline = time.monotonic() + GRACE_SECONDS
            for process in self.processes:
                assert process.stdin is not None
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            for process in self.processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
        self.end()

    def _tell(self, message: object) -> None:
        for process in self.processes:
            assert process.stdin is not None
            pipe = Connection(os.dup(process.stdin.fileno()), readable=False)
            with contextlib.suppress(BrokenPipeError), pipe:  # its end is heard as well
                pipe.send(message)

    def _listen(self, rank: int, stream: IO[bytes]) -> None:
        """Pass on what a process says, its end last: cut off in the middle is ended too."""
        with contextlib.suppress(Exception), _reader(stream.fileno()) as pipe:
            while True:
                self._said.put((rank, *pipe.recv()))
        self._said.put((rank, "ended", None))

    def _why(self, rank: int, sentence: str | None) -> str:
        """sentence: what the rank raised; None: it is gone. If one is killed the others raise."""
        killed = [r for r, process in enumerate(self.processes) if (process.poll() or 0) < 0]
        if killed or sentence is None:
            return self._last_words(*killed[:1] or [rank])
        return sentence

    def _last_words(self, rank: int) -> str:
        code = self.processes[rank].wait()
        if code == -signal.SIGKILL:
            return "killed by the system, most likely because memory ran out"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        text = self._log(rank).read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        return f"ended early: {lines[-1].strip()}" if lines else f"ended early with status {code}"

    def _log(self, rank: int) -> Path:
        return Path(self._folder.name, f"{rank}.log")


class Here:
    """The same in this very process: no time goes on starting one, and a crash ends them all."""

    def __init__(
        self, name: str, make: Callable[..., object], *arguments: object, ranks: int = 1
    ) -> None:
        assert ranks == 1
        self.name = name
        self._made: Any = None
        self._made = self._tried(make, *arguments)

    def ask(self, method: str, **named: object) -> list[Any]:
        """Raises WorkerFailedError or SamaError, as a worker of its own does."""
        return [self._tried(getattr(self._made, method), **named)]

    def _tried(self, work: Callable[..., Any], *arguments: object, **named: object) -> Any:
        try:
            return work(*arguments, **named)
        except SamaError:
            raise
        except Exception as error:
            raise WorkerFailedError(self.name, sentence(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._made = None


def serve() -> None:
    """A worker's process: make the object, then do what is asked until the parent has no more."""
    questions = _reader(0)
    answers = Connection(os.dup(1), readable=False)
    os.dup2(2, 1)  # what libraries print must not stand between the answers
    _end_with(os.getppid())
    warnings.filterwarnings("ignore")
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)

    def say(kind: str, value: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            answers.send((kind, value))

    made: Any = None
    with contextlib.suppress(EOFError):
        make, arguments, warns = questions.recv()
        more = {"warn": lambda text: say("warning", text)} if warns else {}
        while True:
            method, named = questions.recv()
            try:
                if made is None:
                    made = make(*arguments, **more)
                say("answer", getattr(made, method)(**named))
            except Exception as error:
                traceback.print_exc()
                say("mend" if isinstance(error, SamaError) else "error", sentence(error))
            gc.collect()
    if hasattr(made, "leave"):
        made.leave()


def _reader(descriptor: int) -> Connection:
    """What comes from a pipe, message by message, as multiprocessing writes them."""
    return Connection(os.dup(descriptor), writable=False)


def sentence(error: Exception) -> str:
    """What went wrong, for a table."""
    if isinstance(error, SamaError):
        return str(error)
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return OUT_OF_MEMORY
    message = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return f"{type(error).__name__}: {message}"


def cores() -> int:
    """Cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # Linux
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


def processor_name() -> str:
    """The CPU's name, as far as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "cpu")


def _environment(rank: int, ranks: int, threads: int | None, folder: Path) -> dict[str, str]:
    """The parent's, with the processor's cores shared out and no module from where it runs."""
    own = ("RANK", "LOCAL_RANK", "WORLD_SIZE")  # perhaps the parent's, under a launcher
    environment = {name: value for name, value in os.environ.items() if name not in own}
    if ranks > 1:
        environment |= dict(zip(own, map(str, (rank, rank, ranks)), strict=True))
        environment[MEETING] = str(folder / "meeting")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        if threads is not None:
            environment[name] = str(threads)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // ranks)))
    environment |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONSAFEPATH": "1"}
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host's name need not resolve
    return environment


def _end_with(parent: int) -> None:
    """End when the parent is gone, killed even: nobody would take the result."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
