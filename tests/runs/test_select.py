"""`sama select`: what it leaves behind, and everything that people get wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.cli.test_bad_input import refused

pytest.importorskip("duckdb")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """1,000 scores in 3 files, of classes a (700) and b (300), with names."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "scores"
    folder.mkdir()
    values = generator.normal(size=1000)
    for number, rows in enumerate(np.array_split(np.arange(1000), 3)):
        table = pa.table(
            {
                "el2n": values[rows],
                "given_label": np.where(rows % 10 < 7, "a", "b"),
                "name": [f"row-{row}" for row in rows],
            }
        )
        pq.write_table(table, folder / f"part-{number}.parquet")
    return folder


def lines(out: Path) -> list[str]:
    text = (out / "keep.txt").read_text()
    assert text == "" or text.endswith("\n")
    return text.splitlines()


def test_a_fraction_with_its_rows(run_sama: Run, scores: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, err = run_sama(
        "select", scores, "--score", "el2n", "--keep", 0.3, "--rows", "-o", out
    )
    assert code == 0, err
    assert "300 of 1,000 rows" in said
    everything = pq.read_table(scores)
    values = everything["el2n"].to_numpy()
    expected = np.sort(np.argsort(-values)[:300])
    assert lines(out) == [str(row) for row in expected]
    assert pq.read_table(out / "kept").equals(everything.take(expected))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["rows"] == {"all": 1000, "kept": 300}
    assert sorted(p.name for p in out.iterdir()) == ["keep.txt", "kept", "metrics.json"]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_classes_ids_and_the_lowest(run_sama: Run, scores: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _, err = run_sama(
        "select", scores, "--score", "el2n", "--keep", 100, "--by-class", "given_label",
        "--lowest", "--id", "name", "-o", out,
    )  # fmt: skip
    assert code == 0, err
    values = pq.read_table(scores)["el2n"].to_numpy()
    rows = [int(name.removeprefix("row-")) for name in lines(out)]
    assert rows == sorted(rows)
    for members, quota in ((np.arange(1000) % 10 < 7, 70), (np.arange(1000) % 10 >= 7, 30)):
        inside = np.flatnonzero(members)
        best = np.sort(inside[np.argsort(values[inside])[:quota]])
        assert [row for row in rows if members[row]] == best.tolist()


def test_our_own_index_is_what_a_row_is_called(run_sama: Run, tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"index": [5, 8, 13], "score": [1.0, 3.0, 2.0]}), tmp_path / "s.parquet"
    )
    code, _, _ = run_sama("select", tmp_path / "s.parquet", "--keep", 2, "-o", tmp_path / "out")
    assert code == 0
    assert lines(tmp_path / "out") == ["8", "13"]
    # Again only if asked to.
    again = ["select", tmp_path / "s.parquet", "--threshold", 3, "-o", tmp_path / "out"]
    refused(run_sama(*again)[::2], "already holds a finished run")
    assert run_sama(*again, "--overwrite")[0] == 0
    assert lines(tmp_path / "out") == ["8"]
    code, _, err = run_sama(*again[:3], 9, *again[4:], "--overwrite")
    assert code == 0
    assert "no row" in err
    assert lines(tmp_path / "out") == []


def test_mistakes_are_told_in_a_sentence(run_sama: Run, scores: Path, tmp_path: Path) -> None:
    def wrong(*options: object) -> tuple[int, str]:
        code, _, err = run_sama("select", scores, "-o", tmp_path / "out", *options)
        assert not (tmp_path / "out").exists()
        return code, err

    refused(wrong("--score", "eln2", "--keep", 0.3), "'eln2'", "--score", "did you mean 'el2n'")
    refused(wrong("--score", "name", "--keep", 0.3), "holds string", "columns of numbers are: el2n")
    refused(wrong("--score", "el2n"), "--keep", "--threshold")
    refused(wrong("--score", "el2n", "--keep", 1, "--threshold", 1), "either --keep")
    refused(wrong("--score", "el2n", "--keep", 2000), "--keep 2000 asks for 2,000", "1,000")
    refused(wrong("--score", "el2n", "--keep", 0.0001), "leaves none")
    refused(wrong("--score", "el2n", "--keep", "0.3,0.5"), "one at a time")
    for keep in ("many", "-1", "1.5", "inf"):
        refused(wrong("--score", "el2n", f"--keep={keep}"), "--keep")
    refused(wrong("--score", "el2n", "--keep", 9, "--by-class", "el2n"), "--by-class", "no class")
    refused(wrong("--score", "el2n", "--keep", 9, "--by-class", "clas"), "no column 'clas'")
    refused(wrong("--score", "el2n", "--threshold", 0, "--by-class", "name"), "give --keep")
    refused(wrong("--score", "el2n", "--keep", 9, "--id", "el2n"), "--id", "ids are text")
    refused(wrong("--score", "el2n", "--keep", 9, "--memory", 8), "--memory 8 (MB) is too little")
    code, _, err = run_sama("select", tmp_path / "none", "--keep", 1, "-o", tmp_path / "out")
    refused((code, err), "no file or folder")


def test_a_full_disk_is_seen_beforehand(
    run_sama: Run, scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    code, _, err = run_sama(
        "select", scores, "--score", "el2n", "--keep", 0.5, "-o", tmp_path / "out"
    )
    refused((code, err), "the disk of", "make room")


def test_ids_that_are_no_line(run_sama: Run, tmp_path: Path) -> None:
    file = tmp_path / "s.parquet"
    for names, words in ((["a", None], "has no id"), (["a", "b\nc"], "line break")):
        pq.write_table(pa.table({"name": names, "score": [1.0, 3.0]}), file)
        code, _, err = run_sama("select", file, "--keep", 2, "--id", "name", "-o", tmp_path / "out")
        refused((code, err), words, "--id")
        assert not (tmp_path / "out").exists()


def test_kept_rows_of_many_batches_and_files(tmp_path: Path) -> None:
    from samacli.export.kept import KeptRows

    def batch(start: int, names: list[str]) -> pa.RecordBatch:
        numbers = np.arange(start, start + 60_000)
        indices = pa.array(numbers % len(names), pa.int32())
        return pa.record_batch(
            {"n": numbers, "class": pa.DictionaryArray.from_arrays(indices, pa.array(names))}
        )

    batches = [batch(0, ["a", "b"]), batch(60_000, ["b", "c", "a"])]
    batches += [batch(i * 60_000, ["d"]) for i in range(2, 20)]
    with KeptRows(tmp_path / "kept", batches[0].schema) as kept:
        for one in batches:
            kept.add(one)
            kept.add(one.slice(0, 0))
    files = sorted((tmp_path / "kept").iterdir())
    assert [file.name for file in files] == ["kept-00000.parquet", "kept-00001.parquet"]
    assert pq.ParquetFile(files[0]).metadata.num_rows >= 1_000_000
    table = pq.read_table(tmp_path / "kept")
    assert table["n"].to_pylist() == list(range(1_200_000))
    expected = [value for one in batches for value in one.column("class").to_pylist()]
    assert table["class"].to_pylist() == expected
