"""A split read part by part: from files, as a stream, and as a stream from a hub in miniature."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samacli.data.parts import open_parts, part_split
from samacli.errors import SamaError
from samacli.recipe.schema import Columns, Data

from .hub_server import hub

CSV = b"text,label\n" + b"".join(b"text %d,%d\n" % (i, i % 2) for i in range(23))

PROGRAM = """
import json, sys
from samacli.data.parts import open_parts
from samacli.errors import SamaError
from samacli.recipe.schema import Data

for line in sys.stdin:
    try:
        parts = open_parts(Data(**json.loads(line)), stream=True)
        read = [[n, list(t.rows["text"])] for n, t in parts.read(10, 1, lambda n: n != 3)]
        print(json.dumps([parts.identity, read, parts.rows]), flush=True)
    except SamaError as error:
        print(json.dumps(str(error)), flush=True)
"""


def write_parquet(folder: Path) -> Path:
    """23 rows in two files whose ends are no part's end."""
    folder.mkdir()
    for number, rows in enumerate((range(9), range(9, 23))):
        table = pa.table({"text": [f"text {i}" for i in rows], "label": [i % 2 for i in rows]})
        pq.write_table(table, folder / f"train-{number}.parquet", row_group_size=4)
    return folder


@pytest.mark.parametrize("stream", [False, True])
def test_wanted_parts_hold_their_rows(tmp_path: Path, stream: bool) -> None:
    parts = open_parts(Data(path=str(write_parquet(tmp_path / "files"))), stream=stream)
    for first, left_out, numbers in ((0, 1, [0, 2]), (1, 9, [1, 2]), (2, 9, [2])):
        asked: list[int] = []

        def wanted(number: int, asked: list[int] = asked, left_out: int = left_out) -> bool:
            asked.append(number)
            return number != left_out

        found = {number: table.rows["text"] for number, table in parts.read(10, first, wanted)}
        assert list(found) == numbers
        assert asked == list(range(first, 3))
        for number, texts in found.items():
            start = number * 10
            assert list(texts) == [f"text {i}" for i in range(start, min(start + 10, 23))]
        assert parts.rows == 23


def test_other_rows_are_told_by_the_identity(tmp_path: Path) -> None:
    folder = write_parquet(tmp_path / "files")
    before = open_parts(Data(path=str(folder))).identity
    moved = folder.rename(tmp_path / "moved")
    assert open_parts(Data(path=str(moved))).identity == before
    table = pq.read_table(moved / "train-1.parquet")
    changed = ["other", *table["text"].to_pylist()[1:]]
    pq.write_table(table.set_column(0, "text", [changed]), moved / "train-1.parquet")
    assert open_parts(Data(path=str(moved))).identity != before


def test_rows_are_counted_through_the_whole_split(tmp_path: Path) -> None:
    parts = open_parts(Data(path=str(write_parquet(tmp_path / "files"))))
    [(_, table)] = parts.read(10, 2, lambda _: True)
    split = part_split(table, 20, Columns(), "text-classification", ["no", "yes"])
    assert split.index.tolist() == [20, 21, 22]
    assert split.labels.tolist() == [0, 1, 0]
    with pytest.raises(SamaError, match=r"label 1 in row 1|label '1' in row 21"):
        part_split(table, 20, Columns(), "text-classification", ["no"])


def test_a_hub_dataset_is_streamed(tmp_path: Path) -> None:
    questions = [
        {"path": "someone/plain", "train": "train"},
        {"path": "someone/plain", "train": "tests"},
        {"path": "someone/unknown", "train": "train"},
    ]
    with hub({"someone/plain": {"train.csv": CSV}}) as endpoint:
        env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input="".join(json.dumps(question) + "\n" for question in questions),
            capture_output=True, text=True, env=env, timeout=300, check=False,
        )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 3, done.stderr
    identity, read, rows = answers[0]
    assert rows == 23
    assert [[number, len(texts)] for number, texts in read] == [[1, 10], [2, 3]]
    assert read[1][1] == ["text 20", "text 21", "text 22"]
    assert identity["dataset"] == "someone/plain"
    assert len(identity["commit"]) == 40
    assert "no split 'tests'" in answers[1]
    assert "no dataset 'someone/unknown'" in answers[2]
    assert not list(tmp_path.rglob("*.arrow")), "nothing is converted"
