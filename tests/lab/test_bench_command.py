"""`sama bench` as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


def test_the_help_has_examples(run_sama: Run) -> None:
    code, out, _ = run_sama("bench", "--help")
    assert code == 0
    assert "sama bench --json runs/bench.json" in " ".join(out.split())


def test_a_whole_benchmark(
    run_sama: Run, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "160")
    rows_file, picture = tmp_path / "bench.json", tmp_path / "bench.png"
    code, out, err = run_sama(
        "bench", "--model", tiny_bert, "--batch-size", 2, "--sequence-length", 8,
        "--estimators", "sama", "--rounds", 1, "--steps", 2, "--precision", "fp32",
        "--derivatives", "--json", rows_file, "--plot", picture, "--device", "cpu", "--seed", 3,
    )  # fmt: skip
    assert code == 0, err
    for words in ("throughput", "memory", "a meta step, part by part", "adaptation", "contraction"):
        assert words in out
    plain, sama = json.loads(rows_file.read_text())
    assert plain["estimator"] == "plain"
    assert sama["estimator"] == "sama"
    for row in (plain, sama):
        assert row["samples_per_second"] > 0
        assert row["peak_memory_bytes"] > 0
        assert row["relative_throughput"] > 0
        assert row["relative_memory"] > 0
        assert (row["device"], row["world_size"], row["seed"]) == ("cpu", 1, 3)
    assert len(sama["derivatives"]) == 8
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--unroll", "0"], "--unroll '0' is not a whole number above 0"),
        (["--nproc", "1,x"], "--nproc '1,x' is not a whole number above 0"),
        (["--model", ","], "--model names no model"),
        (["--estimators", "sma"], "did you mean 'sama'?"),
        (["--estimators", "cg", "--derivatives"], "add sama to --estimators"),
        (["--sequence-length", "513"], "--sequence-length 513 is more than the 512 positions"),
    ],
)
def test_bad_options_are_one_sentence(run_sama: Run, arguments: list[str], words: str) -> None:
    code, _, err = run_sama("bench", *arguments)
    assert code == 2
    assert words in err
    assert "Traceback" not in err


def test_files_that_cannot_be_written_are_refused_first(run_sama: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run_sama("bench", "--json", tmp_path)
    assert code == 2
    assert "is a directory; name a file" in err
    code, _, err = run_sama("bench", "--plot", tmp_path / "file" / "plot.png")
    assert code == 2
    assert "its directory cannot be made" in err
