"""One contender in a process of its own (or several), doing what the parent asks.

python -m samacli.lab.bench.worker JSON, by itself or under torch.distributed.run; see
`team`, which starts it.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import time
import warnings
from typing import Any

import torch

from samacli.errors import SamaError
from samacli.lab.bench import line
from samacli.lab.bench.breakdown import breakdown
from samacli.lab.bench.contenders import Contender
from samacli.lab.bench.derivatives import derivatives
from samacli.lab.bench.memory import (
    PeakMemory,
    exact_allocation,
    fast_allocation,
    give_back_freed_memory,
)
from samacli.lab.bench.models import REHEARSAL
from samacli.lab.bench.replicas import Replica
from samacli.lab.bench.setting import Setting
from samacli.lab.bench.steps import Sama, Steps, steps_of
from samacli.lab.bench.work import Work
from samacli.models.load import parameter_count


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker is told at its start: the store's port and its name there, and its work."""

    port: int
    worker: str
    setting: Setting
    contender: Contender

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> Task:
        fields = json.loads(text)
        return Task(
            fields["port"],
            fields["worker"],
            Setting(**fields["setting"]),
            Contender(**fields["contender"]),
        )


class Worker:
    """Answers commands; each is a method, each answer a dictionary."""

    def __init__(self, task: Task, replica: Replica) -> None:
        self._task = task
        self._replica = replica
        exact_allocation()
        self._rehearse()
        self._peak = PeakMemory(replica.device)
        self._work = Work(task.setting, replica)
        self._steps: Steps | None = None

    def ready(self) -> dict[str, Any]:
        parameters, _ = parameter_count(self._work.model)
        device = self._replica.device
        return {
            "parameters": parameters,
            "threads": torch.get_num_threads(),
            "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        }

    def warm_up(self, steps: int) -> dict[str, Any]:
        """The first steps, and the most memory that they needed."""
        self.chunk(steps)
        peak = self._peak.bytes()
        fast_allocation()
        return {"peak_memory_bytes": peak, "form": getattr(self._steps, "form", None)}

    def chunk(self, steps: int) -> dict[str, Any]:
        """`steps` base steps with their meta steps, timed."""
        if self._steps is None:
            self._steps = steps_of(self._task.contender, self._work)
        self._replica.synchronize()
        started = time.perf_counter()
        self._steps.run(steps)
        self._replica.synchronize()
        return {
            "seconds": time.perf_counter() - started,
            "form": getattr(self._steps, "form", None),
        }

    def breakdown(self) -> dict[str, Any]:
        """The parts of a meta step; for SAMA alone."""
        assert isinstance(self._steps, Sama)
        return {"seconds": breakdown(self._steps)}

    def derivatives(self) -> dict[str, Any]:
        """Errors and costs of the forms of derivative."""
        fast_allocation()
        return {"rows": [dataclasses.asdict(row) for row in derivatives(self._work)]}

    def _rehearse(self) -> None:
        """The same work in miniature: what libraries load at first use is not the method's."""
        setting = dataclasses.replace(
            self._task.setting, model=REHEARSAL, batch_size=2, sequence_length=4, unroll=1
        )
        steps_of(self._task.contender, Work(setting, self._replica)).run(3)
        give_back_freed_memory()


def serve(task: Task, rank: int, connection: line.Line) -> None:
    """Answer until told to stop; an exception is an answer too, and the last one."""
    number = 0
    try:
        replica = Replica.join(task.setting.device, task.setting.world_size)
        worker = Worker(task, replica)
        connection.answer(number, rank, worker.ready())
        while True:
            number += 1
            command = connection.next_command(number)
            if command["do"] == "stop":
                replica.leave()
                return
            answer = getattr(worker, command.pop("do"))(**command)
            connection.answer(number, rank, answer)
    except Exception as error:
        connection.answer(number, rank, {"error": sentence(error), "user": _is_users(error)})
        raise


def sentence(error: Exception) -> str:
    """What went wrong, for a table."""
    if isinstance(error, SamaError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "out of memory"
    message = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return f"{type(error).__name__}: {message}"


def _is_users(error: Exception) -> bool:
    return isinstance(error, SamaError)


def main() -> None:
    """Entry of a worker's process."""
    warnings.filterwarnings("ignore")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    task = Task.from_json(sys.argv[1])
    connection = line.Line(line.join(task.port), task.worker)
    serve(task, int(os.environ.get("RANK", 0)), connection)


if __name__ == "__main__":
    main()
