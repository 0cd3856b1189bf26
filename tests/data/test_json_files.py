"""JSON: every value comes back as it was written."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samacli.data import load_splits
from samacli.data.json_files import read_json
from samacli.data.names import row_names
from samacli.errors import SamaError
from samacli.export.dataset import write_dataset
from samacli.recipe.schema import Columns, Data


def read(path: Path, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = read_json([path])
    columns = {name: found[name] for name in found.column_names}
    for name, feature in found.features.items():
        if isinstance(feature, datasets.Json):  # whose decoder rounds the last digits of a float
            stored = found.with_format("arrow")[:][name].to_pylist()
            columns[name] = [None if text is None else json.loads(text) for text in stored]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize(
    "value",
    ["2020-01-01", "2020-01-01T10:00:00Z", "1999-12-31 23:59:59", "01", "1e3", "true", "null", ""],
)
def test_text_stays_text(tmp_path: Path, ending: str, value: str) -> None:
    rows = [{"text": value, "n": 1}, {"text": value, "n": 2}]
    assert read(tmp_path / f"t.{ending}", rows) == rows


def test_large_whole_numbers(tmp_path: Path) -> None:
    rows = [{"id": 2**53 + 1}, {"id": -(2**63) + 1}]
    assert read(tmp_path / "t.jsonl", rows) == rows
    found = read(tmp_path / "t.jsonl", [{"id": 123456789012345678901}, {"id": 7}])
    assert found == [{"id": "123456789012345678901"}, {"id": "7"}]
    found = read(tmp_path / "t.jsonl", [{"id": 2**60 + 1}, {"id": 0.5}])
    assert found == [{"id": "1152921504606846977"}, {"id": "0.5"}]


@pytest.mark.parametrize("late", [0.5, 2**53 + 1, 10**30, "x", None, [1], {"a": 1}, True])
def test_another_type_far_down(tmp_path: Path, late: object) -> None:
    rows = [{"x": 1}] * 6000 + [{"x": late}]
    found = [row["x"] for row in read(tmp_path / "t.jsonl", rows)]
    if late == 10**30:
        assert found == ["1"] * 6000 + [str(10**30)]
    else:
        assert found == [1] * 6000 + [late]


def test_nested_values_gain_no_keys(tmp_path: Path) -> None:
    rows = [{"x": {"a": 1}}, {"x": {"b": [1, 2.5, None]}}, {"x": [{"a": "1"}, 3]}]
    assert read(tmp_path / "t.jsonl", rows) == rows


def test_half_a_character_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "\\ud800"}')
    with pytest.raises(SamaError, match=r"holds half a character .*; take it out"):
        read_json([tmp_path / "t.jsonl"])


characters = st.characters(codec="utf-8")
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15),
    st.text(characters, max_size=6),
    st.sampled_from(["2020-01-01", "01", "1e3", "12:30"]),
)
columns = st.one_of(
    st.lists(st.integers(-(2**53), 2**53), min_size=3, max_size=3),
    st.lists(st.text(characters, max_size=6), min_size=3, max_size=3),
    st.lists(st.sampled_from(["2020-01-01", "2021-12-31"]), min_size=3, max_size=3),
    st.lists(scalars, min_size=3, max_size=3),
)


@given(st.lists(columns, min_size=1, max_size=3), st.sampled_from(["json", "jsonl"]))
def test_every_value_comes_back(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[list[object]], ending: str
) -> None:
    names = [f"c{i}" for i in range(len(drawn))]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*drawn, strict=True)]
    found = read(tmp_path_factory.mktemp("json") / f"t.{ending}", rows)
    for name in names:
        before, after = [row[name] for row in rows], [row[name] for row in found]
        numbers = {type(value) for value in before} - {type(None)} == {int, float}
        if numbers and any(isinstance(value, str) for value in after):
            # No one type of numbers holds them all: as JSON writes them.
            before = [None if value is None else json.dumps(value) for value in before]
        assert after == before


def test_floats_among_other_values_are_not_rounded(tmp_path: Path) -> None:
    """Neither as they are exported, nor as names of rows: the library's decoder rounds both."""
    values = [1 / 3, "a", 5e-324, None, [0.1 + 0.2], {"k": 1.7976931348623157e308}, -2.5e-7, 2**70]
    rows = [{"text": f"t{i}", "label": "xy"[i % 2], "x": v} for i, v in enumerate(values)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = Columns(id="x")
    split = load_splits(
        Data(train=str(tmp_path / "t.jsonl"), columns=columns), "text-classification"
    ).train
    write_dataset(split.rows, tmp_path / "out", "card")
    (file,) = (tmp_path / "out").glob("*.parquet")
    stored = pq.read_table(file)["x"].to_pylist()
    assert [None if text is None else json.loads(text) for text in stored] == values
    names = [None if value is None else str(value) for value in values]
    assert row_names(split, columns, "text-classification") == names
    assert row_names(split.select(np.array([0, 2])), columns, "text-classification") == [
        names[0], names[2],
    ]  # fmt: skip
