"""Selection from score files against pandas' own ranking, on files small enough for both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samacli.errors import SamaError
from samacli.pruning.large import (
    Cuts,
    ScoreFiles,
    Sorting,
    kept_batches,
    open_score_files,
    rank_cuts,
    threshold_cuts,
)

pytest.importorskip("duckdb")

CLASSES = ["cat", 'o\'dog "x"', "", None]


def frame(rows: int, seed: int) -> pd.DataFrame:
    """Scores with many ties, missing ones, infinities and both zeros; classes, one of them null."""
    generator = np.random.default_rng(seed)
    values = np.array(
        [-1.5, -0.0, 0.0, 0.25, 2.0, np.inf, -np.inf, np.nan, *generator.normal(size=6)]
    )
    return pd.DataFrame(
        {
            "my score": generator.choice(values, rows),
            "class": generator.choice(
                np.array(CLASSES, dtype=object), rows, p=[0.6, 0.25, 0.1, 0.05]
            ),
        }
    )


def write_files(
    data: pd.DataFrame, folder: Path, parts: int, score: pa.DataType, kind: str
) -> ScoreFiles:
    folder.mkdir(exist_ok=True)
    for number, rows in enumerate(np.array_split(np.arange(len(data)), parts)):
        part = data.iloc[rows]
        scores = part["my score"].to_numpy()
        # Half of the missing scores are null, the others NaN.
        null = np.isnan(scores) & (np.arange(len(scores)) % 2 == 0)
        classes = pa.array(part["class"].tolist(), pa.string(), from_pandas=True)
        table = pa.table(
            {
                "my score": pa.array(scores, score, mask=null),
                "class": classes.dictionary_encode() if kind == "dictionary" else classes,
                "index": pa.array(rows * 10),
            }
        )
        pq.write_table(table, folder / f"scores-{number:05d}.parquet", row_group_size=37)
    return open_score_files(folder)


def by_pandas(data: pd.DataFrame, count: int, lowest: bool) -> list[int]:
    order = data["my score"].sort_values(ascending=lowest, kind="stable", na_position="last")
    return sorted(order.index[:count].tolist())


def kept(files: ScoreFiles, cuts: Cuts, **options: Any) -> list[int]:
    batches = kept_batches(files, "my score", cuts, columns=["index"], **options)
    numbers = []
    for batch in batches:
        assert (np.array(batch.rows.column("index")) == batch.numbers * 10).all()
        numbers += batch.numbers.tolist()
    return numbers


@pytest.fixture
def sorting(tmp_path: Path) -> Sorting:
    return Sorting(256, tmp_path / "sort")


@pytest.mark.parametrize("lowest", [False, True])
@pytest.mark.parametrize(("score", "kind"), [(pa.float64(), "text"), (pa.float32(), "dictionary")])
def test_the_rows_that_pandas_keeps(
    tmp_path: Path, sorting: Sorting, lowest: bool, score: pa.DataType, kind: str
) -> None:
    for seed, (rows, parts) in enumerate([(1, 1), (50, 3), (700, 4)]):
        data = frame(rows, seed)
        if score == pa.float32():
            data["my score"] = data["my score"].astype(np.float32)
        files = write_files(data, tmp_path / f"{seed}", parts, score, kind)
        for share in (0.02, 0.3, 0.77, 1.0):
            count = max(1, round(share * rows))
            cuts = rank_cuts(files, "my score", count, sorting, lowest=lowest)
            assert kept(files, cuts, lowest=lowest) == by_pandas(data, count, lowest)


@pytest.mark.parametrize("lowest", [False, True])
@pytest.mark.parametrize("kind", ["text", "dictionary"])
def test_each_class_in_its_proportion(
    tmp_path: Path, sorting: Sorting, lowest: bool, kind: str
) -> None:
    data = frame(600, 3)
    files = write_files(data, tmp_path / "files", 5, pa.float64(), kind)
    for count in (3, 200, 599, 600):
        cuts = rank_cuts(files, "my score", count, sorting, by_class="class", lowest=lowest)
        numbers = kept(files, cuts, by_class="class", lowest=lowest)
        assert len(numbers) == count
        assert numbers == sorted(numbers)
        for _, members in data.groupby("class", dropna=False):
            mine = [row for row in numbers if row in members.index]
            assert abs(len(mine) - len(members) * count / 600) < 1
            assert mine == by_pandas(members, len(mine), lowest)


def test_whole_numbers_are_scores_and_classes_too(tmp_path: Path, sorting: Sorting) -> None:
    table = pa.table({"events": [3, 0, None, 7, 3, 3], "class": [1, 1, 1, 2, 2, None]})
    pq.write_table(table, tmp_path / "one.parquet")
    files = open_score_files(tmp_path / "one.parquet")
    cuts = rank_cuts(files, "events", 3, sorting)
    assert [n for b in kept_batches(files, "events", cuts) for n in b.numbers] == [0, 3, 4]
    cuts = rank_cuts(files, "events", 3, sorting, by_class="class")
    found = [n for b in kept_batches(files, "events", cuts, by_class="class") for n in b.numbers]
    assert found == [0, 3, 5] or found == [0, 1, 3], "3 of 6: 1.5, 1 and 0.5 rows"


def test_thresholds(tmp_path: Path) -> None:
    data = frame(300, 4)
    files = write_files(data, tmp_path / "files", 3, pa.float64(), "text")
    scores = data["my score"]
    assert kept(files, threshold_cuts(0.25)) == data.index[scores >= 0.25].tolist()
    assert kept(files, threshold_cuts(0.0), lowest=True) == data.index[scores <= 0.0].tolist()


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SamaError, match="no file or folder"):
        open_score_files(tmp_path / "nowhere")
    with pytest.raises(SamaError, match=r"holds no \.parquet files"):
        open_score_files(tmp_path)
    pq.write_table(pa.table({"a": [1.0]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": [1.0]}), tmp_path / "2.parquet")
    with pytest.raises(SamaError, match=r"2\.parquet has other columns \(b\)"):
        open_score_files(tmp_path)
    (tmp_path / "2.parquet").write_bytes(b"no parquet")
    with pytest.raises(SamaError, match=r"cannot read .*2\.parquet as Parquet"):
        open_score_files(tmp_path)
    pq.write_table(pa.table({"a": pa.array([], pa.float64())}), tmp_path / "none.parquet")
    with pytest.raises(SamaError, match="no rows"):
        open_score_files(tmp_path / "none.parquet")


def test_little_memory_is_enough_or_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 400_000
    scores = np.random.default_rng(0).normal(size=rows)
    pq.write_table(pa.table({"score": scores}), tmp_path / "scores.parquet")
    files = open_score_files(tmp_path / "scores.parquet")
    cuts = rank_cuts(files, "score", rows // 3, Sorting(64, tmp_path / "sort"))
    assert cuts[None].score == np.sort(scores)[-(rows // 3)]
    with pytest.raises(SamaError, match=r"--memory 1 \(MB\) is too little"):
        rank_cuts(files, "score", rows // 3, Sorting(1, tmp_path / "sort"))


def test_without_duckdb_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sorting: Sorting
) -> None:
    import importlib.util

    find: Callable[..., Any] = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "duckdb" else find(name, *more),
    )
    files = write_files(frame(5, 0), tmp_path / "files", 1, pa.float64(), "text")
    with pytest.raises(SamaError, match=r"pip install 'samacli\[large\]'"):
        rank_cuts(files, "my score", 2, sorting)


def test_odd_names_are_names(tmp_path: Path, sorting: Sorting) -> None:
    folder = tmp_path / "a[1]*" / "my score=3"
    folder.mkdir(parents=True)
    table = pa.table({"my score": [1.0, 3.0, 2.0], 'a "b"': pa.array([None] * 3, pa.string())})
    pq.write_table(table, folder / "x?.parquet")
    files = open_score_files(folder)
    for by_class in (None, 'a "b"'):
        cuts = rank_cuts(files, "my score", 2, sorting, by_class=by_class)
        batches = kept_batches(files, "my score", cuts, by_class=by_class)
        assert [n for batch in batches for n in batch.numbers] == [1, 2]
    pq.write_table(pa.table({"Score": [1.0], "score": [2.0]}), tmp_path / "twice.parquet")
    with pytest.raises(SamaError, match="'Score' and 'score'"):
        open_score_files(tmp_path / "twice.parquet")
