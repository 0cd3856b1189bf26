"""Benchmarks with their workers, each in processes of its own."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from samacli.errors import SamaError
from samacli.lab.bench.measures import Measured
from samacli.lab.bench.run import Alternation, bench
from samacli.lab.bench.steps import Contender
from samacli.lab.bench.workload import Workload
from samacli.lab.workers import Worker, WorkerFailedError
from samacli.progress import Silent, Task

TINY = Workload("bert-tiny", 2, 8, 1, 1, "cpu", "fp32", 0)
PLAIN, SAMA = Contender("plain"), Contender("sama")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_several_processes(tmp_path: Path) -> None:
    load = Workload("bert-tiny", 2, 8, 2, 2, "cpu", "fp32", 0)
    file = tmp_path / "new" / "rows.json"
    rows = bench([load], [PLAIN, SAMA], rounds=2, steps=3, json_file=file)
    assert json.loads(file.read_text()) == [row.as_dict() for row in rows]
    plain, sama = rows
    assert (plain.estimator, sama.estimator) == ("plain", "sama")
    for row in rows:
        assert row.error is None
        assert row.world_size == 2
        assert row.steps_per_round == 4  # whole meta steps
        assert row.parameters == 4_386_694
        assert row.samples_per_second is not None
        assert row.samples_per_second > 0
        assert row.peak_memory_bytes is not None
        assert row.peak_memory_bytes > 16 * row.parameters  # θ, its gradient and two moments
    assert plain.relative_throughput == plain.relative_memory == 1
    assert sama.relative_memory is not None
    assert sama.relative_memory > 1  # v
    assert sama.form == "riding"
    assert sama.meta_step is not None
    assert "adaptation" in sama.meta_step


def test_a_worker_that_is_killed_is_noticed_at_once() -> None:
    with Worker("sama", Measured, TINY, SAMA) as worker:
        assert worker.ask("warm_up", steps=1)[0]["parameters"] == 4_386_694
        worker.processes[0].kill()
        started = time.monotonic()
        with pytest.raises(WorkerFailedError, match="sama: killed by the system") as caught:
            worker.ask("chunk", steps=1)
        assert time.monotonic() - started < 5
    assert caught.value.why == "killed by the system, most likely because memory ran out"


def test_what_a_worker_cannot_do_is_said_in_its_words(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "bert"}')
    load = Workload(str(broken), 2, 8, 1, 1, "cpu", "fp32", 0)
    with pytest.raises(SamaError, match=r"broken.*has no weights"):
        bench([load], [PLAIN], rounds=1, steps=1)


class KillsPlain(Silent):
    """Ends the plain worker when the first estimator's rounds begin."""

    alternation: Alternation
    killed = False

    @contextlib.contextmanager
    def task(self, description: str, total: int) -> Iterator[Task]:
        if not self.killed:
            self.killed = True
            assert self.alternation.plain is not None
            self.alternation.plain.worker.processes[0].kill()
        with super().task(description, total) as task:
            yield task


def test_the_others_go_on_when_one_dies() -> None:
    progress = KillsPlain()
    progress.alternation = Alternation(TINY, rounds=1, steps=1, progress=progress)
    plain, first, second = progress.alternation.measure([PLAIN, SAMA, Contender("sama-na")])
    assert first.error is not None
    assert first.error.startswith("plain training beside it: killed by the system")
    assert first.samples_per_second is None
    assert plain.error is None
    assert second.error is None
    assert second.relative_throughput is not None
