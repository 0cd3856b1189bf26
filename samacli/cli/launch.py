"""`--nproc`: the same command in several processes, by torchrun's own launcher.

The processes' failures are left in files, for the launching process to tell of the one that came
first: when one process dies, the others fail too, and their words would be beside the point.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samacli.errors import Interrupted, SamaError

USER_ERROR = 2  # the exit code of what the user can mend
INTERRUPTED = 130
FAILURES = "SAMA_FAILURES"  # the folder for the files


class ProcessError(Exception):
    """A failure that a launched process has explained: exit code and sentence."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def is_worker() -> bool:
    """Whether this is one of several processes, started by torchrun, `accelerate launch` or us."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_silent() -> bool:
    """Whether another process speaks for this one."""
    return is_worker() and int(os.environ.get("RANK", "0")) > 0


def leave_failure(code: int, message: str) -> bool:
    """Leave word of this process's failure; False if nobody will read it."""
    folder = os.environ.get(FAILURES)
    if folder is None or not is_worker():
        return False
    text = json.dumps({"code": code, "message": message})
    (Path(folder) / f"{os.environ['RANK']}.json").write_text(text, encoding="utf-8")
    return True


def in_processes(
    arguments: Sequence[str],
    processes: int,
    output: Path | None = None,
    *,
    left: str = "nothing was written",
) -> bool:
    """Run `sama arguments` in so many processes here; False if this is one of them already.

    output: of a run that can be resumed, for what is said when a process is lost.
    left: what another run that is ended leaves behind, for the same message.

    For several machines there is torchrun itself: `torchrun --nnodes … -m samacli reweight …`.

    Raises:
        ProcessError: a process failed and said why.
        SamaError: a process was ended by a signal, or failed without a word.
        Interrupted: the user or the system ended it.
    """
    if processes == 1 or is_worker():
        return False
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed", "torch.distributed.elastic.agent.server.api"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # Each process would take all cores otherwise.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    # What `torchrun --standalone` does; its parser would take some of our options for its own.
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    with tempfile.TemporaryDirectory(prefix="sama-") as folder:
        os.environ[FAILURES] = folder
        try:
            elastic_launch(config, sys.executable)("-u", "-m", "samacli", *arguments)
        except ChildFailedError as error:
            raise _explained(error, processes, Path(folder), output, left) from None
        except SignalException as end:
            raise _interrupted(end.sigval, Path(folder), output, left) from None
        finally:
            del os.environ[FAILURES]
    return True


def _interrupted(number: int, folder: Path, output: Path | None, left: str) -> Interrupted:
    """What a process said of the end that a signal put to all; not all may have come to that."""
    said = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    stopped = [words["message"] for words in said if words["code"] == 128 + number]
    message = f"stopped by {signal.Signals(number).name}; {_kept(output, left)}"
    return Interrupted(stopped[0] if stopped else message, 128 + number)


def _kept(output: Path | None, left: str) -> str:
    if output is None:
        return left
    from samacli.store.unfinished import advice

    return advice(output)


def _explained(
    error: object, processes: int, folder: Path, output: Path | None, left: str
) -> Exception:
    """What came first: the user's mistake, a signal from outside, anything else that was said.

    The launcher ends those that are left with SIGTERM, which explains nothing by itself.
    """
    said = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    said.sort(key=lambda words: words["code"] != USER_ERROR)
    if said and said[0]["code"] == USER_ERROR:
        return ProcessError(USER_ERROR, said[0]["message"])
    failures: dict[int, Any] = error.failures  # type: ignore[attr-defined]
    ended = {rank: f.signal_name() for rank, f in sorted(failures.items()) if f.exitcode < 0}
    killed = {rank: name for rank, name in ended.items() if name != "SIGTERM"}
    if said and not killed:
        return ProcessError(said[0]["code"], said[0]["message"])
    for rank, name in (killed or ended).items():
        return SamaError(
            f"process {rank + 1} of {processes} was ended by {name} (out of memory?), and the "
            f"others were stopped; {_kept(output, left)}"
        )
    return SamaError(
        f"process {min(failures) + 1} of {processes} ended without a word; run it without --nproc "
        "to see why"
    )


def leave() -> None:
    """Part from the other processes in good order."""
    if "torch.distributed" in sys.modules:
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()
