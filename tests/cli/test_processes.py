"""`--nproc`, torchrun and `accelerate launch`: one command, several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from samacli.cli.launch import FAILURES

QUICK = ["training.steps=6", "training.precision=fp32", "training.batch_size=16"]
SAMA = [sys.executable, "-m", "samacli"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
# On the CPU accelerate itself would start MPI; its torchrun does not ask for GPUs.
ACCELERATE = [
    sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2",
    "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0",
]  # fmt: skip


def environment() -> dict[str, str]:
    hidden = {"WORLD_SIZE", "RANK", "LOCAL_RANK", FAILURES}
    return {k: v for k, v in os.environ.items() if k not in hidden} | {"OMP_NUM_THREADS": "1"}


def run(*command: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True, text=True, timeout=300, env=environment(),
    )  # fmt: skip


def reweight(texts: dict[str, Path], model: Path, out: Path) -> list[Any]:
    return [
        "reweight", "--train", texts["noisy"], "--meta", texts["clean"], "--test", texts["test"],
        "--model", model, "--text-column", "text", "--label-column", "label",
        "--output", out, "--baselines", "noisy", "--device", "cpu", *QUICK,
    ]  # fmt: skip


def test_two_processes_write_one_result(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    arguments = reweight(texts, tiny_bert, tmp_path / "out")
    done = run(*SAMA, *arguments, "--nproc", 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("suspects.csv") == 1, "both processes spoke"
    assert "[W" not in done.stderr, "torch's own warnings"
    assert "Warning" not in done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["processes"] == 2
    assert set(metrics["methods"]) == {"noisy", "sama", "export"}
    scores = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert scores.num_rows == 400
    assert np.mean(scores["weight"].to_numpy()) == pytest.approx(1, abs=1e-4)
    losses = scores["loss"].to_numpy()
    assert np.isclose(losses, np.log(3), atol=1e-7).mean() < 0.1, "rows without a prediction"
    leftovers = [p.name for p in tmp_path.iterdir() if p.name.startswith(".out")]
    assert leftovers == []


def test_two_processes_prune(texts: dict[str, Path], tiny_bert: Path, tmp_path: Path) -> None:
    """Trust, weights, another score and copies: both must agree on all of it, or one waits."""
    out = tmp_path / "out"
    done = run(
        *SAMA, "prune", "--train", texts["noisy"], "--test", texts["test"], "--model", tiny_bert,
        "--text-column", "text", "--label-column", "label", "--keep", "0.5,0.25", "--verify",
        "--scores", "el2n", "--output", out, "--device", "cpu", "prune.duplicates=0.99",
        "repeats=2", *QUICK, "--nproc", 2,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["processes"] == 2
    assert set(metrics["methods"]) == {"full", "random", "sama", "el2n"}
    scores = pq.read_table(out / "scores.parquet").to_pandas()
    assert len(scores) == 400
    assert scores["keep"].sum() == metrics["rows"]["kept"] == 200
    # Models that have learnt nothing do not tell which labels are right: there is no such column.
    known = [name for name in ("right", "weight", "loss", "score") if name in scores.columns]
    assert known[-3:] == ["weight", "loss", "score"]
    assert np.isfinite(scores[known].to_numpy()).all()
    assert len((out / "keep-0.25.txt").read_text().split()) == 100


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_other_launchers_do_as_well(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path, launcher: list[str]
) -> None:
    module = ["-m", "samacli"]
    done = run(*launcher, *module, *reweight(texts, tiny_bert, tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("suspects.csv") == 1
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["processes"] == 2


def test_a_mistake_is_told_once_and_without_a_traceback(tmp_path: Path) -> None:
    done = run(
        *SAMA, "reweight", "--train", "missing.csv", "--meta", "clean.csv",
        "-o", tmp_path / "out", "--nproc", 2,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "missing.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert "torch" not in done.stderr


def workers(parent: int) -> list[int]:
    """Python processes below the launching one, by /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
            line = (status.parent / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if int(fields[1]) == parent and b"samacli" in line:
            found.append(int(status.parent.name))
    return sorted(found)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find processes")
def test_a_killed_process_ends_the_run_with_a_clear_message(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    arguments = reweight(texts, tiny_bert, tmp_path / "out")
    command = [*SAMA, *arguments, "training.steps=100000", "--nproc", 2]
    with subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:  # training has begun
            if "(noisy), " in line:
                break
        os.kill(workers(process.pid)[-1], signal.SIGKILL)
        killed = time.monotonic()
        _, stderr = process.communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert process.returncode == 2
    assert "of 2 was ended by SIGKILL" in stderr
    assert "nothing was written" in stderr
    assert "Traceback" not in stderr
    assert stderr.count("error:") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find processes")
def test_two_processes_go_on_to_the_same_end(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    """After a lost process, and after SIGTERM to the launching one."""
    saving = ["checkpoint.every_steps=5", "checkpoint.every_seconds=null", "training.steps=300"]

    def command(output: Path, *more: str) -> list[str]:
        parts = [*SAMA, *reweight(texts, tiny_bert, output), "--nproc", 2, *saving, *more]
        return [str(part) for part in parts]

    assert run(*command(tmp_path / "whole")).returncode == 0
    partial = tmp_path / "out.partial"

    def checkpoints() -> set[Path]:
        return set(partial.glob("fits/sama*/sama*/step-*"))

    def end(how: str, *more: str) -> None:
        earlier = checkpoints()
        with subprocess.Popen(
            command(tmp_path / "out", *more),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        ) as process:  # fmt: skip
            while not checkpoints() - earlier:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            if how == "SIGTERM":
                process.terminate()
            else:
                os.kill(workers(process.pid)[-1], signal.SIGKILL)
            _, stderr = process.communicate(timeout=120)
        assert process.returncode == (143 if how == "SIGTERM" else 2), stderr
        assert f"is kept in '{partial}', and the same command with --resume goes on" in stderr
        assert "Traceback" not in stderr
        assert "death signal" not in stderr, "torch's own words"

    end("a lost process")
    end("SIGTERM", "--resume")
    done = run(*command(tmp_path / "out", "--resume"))
    assert done.returncode == 0, done.stderr
    for name in ("scores.parquet", "model/model.safetensors", "suspects.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not partial.exists()
