"""Ctrl-C, SIGTERM and `--resume` on the command line: what is said, and the exit status."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samacli.cli.console import _Stretch

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`interrupt(task, signals…)`: sends them once, after the third step of a task so called."""

    def arrange(name: str, *numbers: signal.Signals) -> None:
        left = list(numbers)

        def advance(self: _Stretch, steps: int = 1) -> None:
            self.done += steps
            if left and self.description.startswith(name) and self.done >= 3:
                while left:
                    os.kill(os.getpid(), left.pop())

        monkeypatch.setattr(_Stretch, "advance", advance)

    return arrange


def reweight(texts: dict[str, Path], model: Path, output: Path) -> list[Any]:
    return [
        "reweight", "--train", texts["noisy"], "--meta", texts["clean"], "--test", texts["test"],
        "--model", model, "--output", output, "--baselines", "noisy", "--device", "cpu",
        "training.steps=12", "training.batch_size=16",
    ]  # fmt: skip


KEPT = "is kept in '{0}.partial', and the same command with --resume goes on from there"


@pytest.mark.parametrize(
    ("task", "signals", "code", "said"),
    [
        ("sama, seed 0", [signal.SIGINT], 130, "stopped by SIGINT after step 3 of 12; what was "),
        ("noisy, seed 0", [signal.SIGINT] * 2, 130, "interrupted; nothing was written"),
        ("sama, seed 0", [signal.SIGINT] * 2, 130, "interrupted; what was done is kept in"),
        ("sama, seed 0", [signal.SIGTERM], 143, "stopped by SIGTERM after step 3 of 12; what was"),
        ("testing", [signal.SIGTERM], 143, "stopped by SIGTERM; nothing was written"),
        ("scoring", [signal.SIGTERM], 143, "stopped by SIGTERM; what was done is kept in"),
    ],
)
def test_a_signal_ends_it_with_its_own_status_and_says_how_to_go_on(
    task: str,
    signals: list[signal.Signals],
    code: int,
    said: str,
    texts: dict[str, Path],
    tiny_bert: Path,
    tmp_path: Path,
    run_sama: Run,
    interrupt: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = reweight(texts, tiny_bert, tmp_path / "out")
    interrupt(task, *signals)
    status, _, stderr = run_sama(*command)
    assert status == code
    assert said in stderr
    assert "error" not in stderr
    kept = tmp_path / "out.partial"
    assert kept.exists() == ("nothing" not in said)
    assert not (tmp_path / "out").exists()
    if not kept.exists():
        return
    assert KEPT.format(tmp_path / "out") in stderr
    status, _, stderr = run_sama(*command)
    assert status == 2
    assert "holds an unfinished run of this output; add --resume" in stderr
    status, _, stderr = run_sama(*command, "--resume")
    assert status == 0
    assert "noisy, seed 0: finished before" in stderr
    assert not kept.exists()
    assert (tmp_path / "out" / "metrics.json").is_file()


def test_resume_without_anything_to_go_on_with_starts_and_train_has_it_too(
    texts: dict[str, Path],
    tiny_bert: Path,
    tmp_path: Path,
    run_sama: Run,
    interrupt: Callable[..., None],
) -> None:
    status, _, stderr = run_sama(*reweight(texts, tiny_bert, tmp_path / "out"), "--resume")
    assert status == 0
    assert "starting at the beginning" in stderr
    again = [
        "train",
        tmp_path / "out",
        "training.steps=8",
        "-o",
        tmp_path / "two",
        "--device",
        "cpu",
    ]
    interrupt("training", signal.SIGTERM)
    assert run_sama(*again)[0] == 143
    status, _, stderr = run_sama(*again, "--ignore-weights", "--resume")
    assert status == 2
    assert "weights" in stderr
    assert run_sama(*again, "--resume")[0] == 0
    assert not (tmp_path / "two.partial").exists()
