"""What goes out equals what came in: no row and no cell is changed or lost without a word.

Each test writes rows by the format's own writer, reads them as a run does, and compares cell by
cell. An input may be refused with a sentence where a test says so, never read as something else.
"""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from samacli.data import load_splits
from samacli.data.names import row_names
from samacli.data.parts import open_parts
from samacli.errors import SamaError
from samacli.export.dataset import label_values, write_dataset
from samacli.recipe.schema import Columns, Data
from tests.fuzz import inputs
from tests.fuzz.conftest import fuzzed

FORMATS = ["csv", "tsv", "json", "jsonl", "parquet"]


def _written(path: Path, table: dict[str, list[Any]], how: str) -> list[list[Any]]:
    """Write the table; the rows as that format holds them: CSV has text alone."""
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    if path.suffix in (".csv", ".tsv"):
        rows = [["" if cell is None else str(cell) for cell in row] for row in rows]
        encoding = "utf-8-sig" if "mark" in how else "utf-8"
        with path.open("w", newline="", encoding=encoding) as file:
            writer = csv.writer(
                file,
                delimiter="\t" if path.suffix == ".tsv" else ",",
                quoting=csv.QUOTE_MINIMAL if how == "crlf" else csv.QUOTE_ALL,
                lineterminator="\r\n" if "crlf" in how else "\n",
            )
            writer.writerows([list(table), *rows])
        return rows
    records = [dict(zip(table, row, strict=True)) for row in rows]
    if path.suffix == ".parquet":
        datasets.Dataset.from_list(records, on_mixed_types=None).to_parquet(str(path))
    elif path.suffix == ".json":
        path.write_text(json.dumps(records, ensure_ascii="quoted" in how), encoding="utf-8")
    else:
        lines = [json.dumps(record, ensure_ascii="quoted" in how) for record in records]
        path.write_text("\n".join(lines), encoding="utf-8")
    return rows


@fuzzed
@given(
    inputs.tables(),
    st.sampled_from(["csv", "tsv", "json", "jsonl", "parquet"]),
    st.sets(st.sampled_from(["mark", "quoted", "crlf"])).map(" ".join),
)
def test_no_cell_is_changed(
    folder: Path, tried: Callable[[], None], table: dict[str, list[Any]], ending: str, how: str
) -> None:
    """What is exported is what was given, byte for byte, or the input is refused."""
    tried()
    path = folder / f"given.{ending}"
    try:
        given_rows = _written(path, table, how)
    except (pa.ArrowException, OverflowError, ValueError):
        return  # no Parquet file has such a column
    data = Data.model_validate({"train": str(path), "quoting": "trusted"})
    splits = load_splits(data, "text-classification")  # nothing here is to be refused
    write_dataset(splits.train.rows, folder / "out", "card")
    files = sorted((folder / "out").glob("*.parquet"))
    found = pa.concat_tables([pq.read_table(file) for file in files])
    assert found.column_names == list(table)
    kept = [given_rows[i] for i in splits.train.index]
    for place, name in enumerate(table):
        before, after = [row[place] for row in kept], found[name].to_pylist()
        if isinstance(splits.train.rows.features[name], datasets.Json):
            after = [None if text is None else json.loads(text) for text in after]
        if ending in ("csv", "tsv"):
            after = ["" if cell is None else str(cell) for cell in after]
        elif any(
            isinstance(a, str) and not isinstance(b, str)
            for a, b in zip(after, before, strict=True)
        ):
            before = [None if cell is None else json.dumps(cell) for cell in before]
        assert after == before, name


@fuzzed
@given(inputs.naive_rows(), st.sampled_from(["csv", "tsv"]))
def test_a_stray_quote_swallows_no_row(
    folder: Path, tried: Callable[[], None], rows: list[tuple[str, str]], ending: str
) -> None:
    tried()
    path = folder / f"naive.{ending}"
    separator = "," if ending == "csv" else "\t"
    path.write_text("".join(separator.join(r) + "\n" for r in [("text", "label"), *rows]))
    for quoting in ("checked", "none"):
        data = Data.model_validate({"train": str(path), "quoting": quoting})
        with contextlib.suppress(SamaError) if quoting == "checked" else contextlib.nullcontext():
            found = load_splits(data, "text-classification").train.rows
            assert list(zip(found["text"], found["label"], strict=True)) == rows


@fuzzed
@given(inputs.image_folders)
def test_an_image_folder_s_images_are_all_there(
    tmp_path_factory: pytest.TempPathFactory, tried: Callable[[], None], files: dict[str, bool]
) -> None:
    """Each is of the class of the first folder below the split's, or the folder is refused."""
    tried()
    root = tmp_path_factory.mktemp("images")
    for place, is_image in files.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            return
        if is_image:
            kind = "GIF" if path.suffix in ("", ".x", ".heic", ".txt") else None
            Image.new("L", (2, 2)).save(path, format=kind)
        else:
            path.write_text("no image")
    data = Data.model_validate({"train": str(root), "bad_images": "skip"})
    splits = None
    with contextlib.suppress(SamaError):
        splits = load_splits(data, "image-classification")
    if splits is None:
        return
    base = Path(splits.train.origin)
    images = {
        str(path.resolve())
        for path in (root / place for place, is_image in files.items() if is_image)
        if path.is_relative_to(base) and path.parent != base
    }
    raw = splits.train.rows.cast_column("image", datasets.Image(decode=False))
    paths = [value["path"] for value in raw["image"]]
    assert set(paths) == images
    names = [splits.classes[label] for label in splits.train.labels]
    assert names == [Path(path).relative_to(base.resolve()).parts[0] for path in paths]


@fuzzed
@given(inputs.tables(), st.sampled_from(["csv", "jsonl", "json"]), inputs.ENCODINGS,
       st.sampled_from(["", ".gz", ".bz2"]))  # fmt: skip
def test_other_encodings_are_refused_or_are_utf_8(
    folder: Path, tried: Callable[[], None], table: dict[str, list[Any]], ending: str,
    encoding: str, packed: str,
) -> None:  # fmt: skip
    """Bytes that are UTF-8 are read as UTF-8, whatever they were meant to be; others never."""
    tried()
    plain = folder / f"encoded.{ending}"
    _written(plain, table, "quoted" if ending == "csv" else "")
    try:
        data = plain.read_bytes().decode("utf-8").encode(encoding)
    except UnicodeEncodeError:
        return
    path = plain.with_name(plain.name + packed)
    path.write_bytes({"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[packed](data))
    try:
        text: str | None = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = None
    try:
        config = Data.model_validate({"train": str(path), "quoting": "trusted"})
        rows = load_splits(config, "text-classification").train.rows
    except SamaError:
        assert text is None or encoding not in ("utf-8", "utf-8-sig")
        return
    assert text is not None
    if ending == "csv":
        _, *expected = csv.reader(io.StringIO(text, newline=""))
        found = [["" if cell is None else str(cell) for cell in row.values()] for row in rows]
        assert found == [cells for cells in expected if cells]
    else:
        read = (
            json.loads(text) if ending == "json" else map(json.loads, text.strip("\n").split("\n"))
        )
        assert list(rows["text"]) == [row["text"] for row in read]


@fuzzed
@given(inputs.texts_in_cells(), inputs.styles())
def test_a_style_of_csv_that_is_named_is_read_so(
    folder: Path, tried: Callable[[], None], rows: list[list[str]], style: dict[str, Any]
) -> None:
    """Separators, line ends, quotes and escapes; blank lines between rows are none."""
    tried()
    blank = style.pop("blank")
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, **style)
    for row in [["text", "label"], *rows]:
        writer.writerow(row)
        buffer.write(style["lineterminator"] * blank)
    path = folder / ("styled.tsv" if style["delimiter"] == "\t" else "styled.csv")
    path.write_bytes(buffer.getvalue().encode())
    escape = "backslash" if style.get("escapechar") else "none"
    data = Data.model_validate({"train": str(path), "quoting": "trusted", "escape": escape})
    found = load_splits(data, "text-classification").train.rows
    assert [list(map(str, row.values())) for row in found] == rows
    # Without being told so, the same file is read the same, or refused.
    with contextlib.suppress(SamaError):
        found = load_splits(Data.model_validate({"train": str(path)}), "text-classification")
        if escape == "none":
            assert [list(map(str, row.values())) for row in found.train.rows] == rows


@fuzzed
@given(inputs.label_columns(), st.sampled_from(FORMATS), st.sampled_from(FORMATS))
def test_a_label_is_the_same_class_in_every_format(
    folder: Path, tried: Callable[[], None], labels: list[Any], first: str, second: str
) -> None:
    """Training rows in one format, clean rows in another; `sama_label` is of the label's type."""
    tried()
    table = {"text": [f"text {i}" for i in range(len(labels))], "label": labels}
    train, meta = folder / f"labelled.{first}", folder / f"clean.{second}"
    _written(train, table, "")
    _written(meta, {**table, "text": [f"clean {i}" for i in range(len(labels))]}, "")
    data = Data.model_validate({"train": str(train), "meta": str(meta), "minus_one": "class"})
    splits = load_splits(data, "text-classification")
    assert splits.meta is not None
    names = [splits.classes[label] for label in splits.train.labels]
    assert [name.casefold() for name in names] == [_class_name(label) for label in labels]
    assert splits.meta.labels.tolist() == splits.train.labels.tolist()
    rows = splits.train.rows
    given = (splits.train.labels, rows["label"])
    values, feature = label_values(given[0], splits.classes, rows.features["label"], given)
    assert feature == rows.features["label"]
    assert [(type(v), v) for v in datasets.Dataset.from_dict({"x": list(values)})["x"]] == [
        (type(v), v) for v in rows["label"]
    ]


def _class_name(label: Any) -> str:
    if isinstance(label, float):
        label = int(label)
    return str(label).strip().casefold()


@fuzzed
@given(inputs.tables(), st.sampled_from(["csv", "jsonl", "parquet"]), st.integers(1, 3),
       st.booleans())  # fmt: skip
def test_shards_are_one_split_in_order(
    tmp_path_factory: pytest.TempPathFactory, tried: Callable[[], None],
    table: dict[str, list[Any]], ending: str, shards: int, below: bool,
) -> None:  # fmt: skip
    """Cells that only a later shard shows to be text are text in all; Parquet's types agree."""
    tried()
    root = tmp_path_factory.mktemp("shards")
    place = root / "data" if below else root
    place.mkdir(exist_ok=True)
    count = len(table["text"])
    written: list[list[Any]] = []
    for shard in range(shards):
        part = slice(shard * count // shards, (shard + 1) * count // shards)
        path = place / f"train-{shard:05d}-of-{shards:05d}.{ending}"
        try:
            rows = {name: column[part] for name, column in table.items()}
            written += _written(path, rows, "quoted" if ending == "csv" else "")
        except (pa.ArrowException, OverflowError, ValueError):
            return
    data = Data.model_validate({"path": str(root), "quoting": "trusted", "minus_one": "class"})
    with contextlib.suppress(SamaError) if ending == "parquet" else contextlib.nullcontext():
        split = load_splits(data, "text-classification").train
        expected = [written[i] for i in split.index]
        assert [row[list(table).index("text")] for row in expected] == list(split.rows["text"])
        if ending == "csv":
            found = [["" if c is None else str(c) for c in row.values()] for row in split.rows]
            assert found == expected


@fuzzed
@given(inputs.row_ids(), st.sampled_from(FORMATS))
def test_rows_keep_their_names(
    folder: Path, tried: Callable[[], None], ids: list[Any], ending: str
) -> None:
    tried()
    path = folder / f"named.{ending}"
    table = {"id": ids, "text": [f"text {i}" for i in range(len(ids))],
             "label": [i % 2 for i in range(len(ids))]}  # fmt: skip
    try:
        rows = _written(path, table, "quoted")
    except (pa.ArrowException, OverflowError, ValueError):
        return
    columns = Columns(id="id")
    split = load_splits(
        Data.model_validate({"train": str(path), "columns": columns}), "text-classification"
    ).train
    found = row_names(split, columns, "text-classification")
    assert found is not None
    text = path.suffix in (".csv", ".tsv")
    assert [(name or "") if text else name for name in found] == [
        None if row[0] is None else str(row[0]) for row in rows
    ]


@fuzzed
@given(inputs.tables(), st.sampled_from(["jsonl", "parquet"]), st.integers(1, 5))
def test_a_stream_has_the_cells_of_the_file(
    folder: Path, tried: Callable[[], None], table: dict[str, list[Any]], ending: str, size: int
) -> None:
    tried()
    path = folder / f"streamed.{ending}"
    try:
        rows = _written(path, table, "")
    except (pa.ArrowException, OverflowError, ValueError):
        return
    data = Data.model_validate({"train": str(path)})
    parts = open_parts(data, stream=True)
    read = [part for _, part in parts.read(size, 0, lambda _: True)]
    assert parts.rows == len(rows)
    for place, name in enumerate(table):
        found = [cell for part in read for cell in _cells(part.rows, name)]
        assert found == [_as_json(row[place], found[i]) for i, row in enumerate(rows)], name


def _cells(rows: datasets.Dataset, name: str) -> Sequence[Any]:
    """As they are stored: the library's decoder of mixed columns rounds."""
    cells = rows.data[name].to_pylist()
    if isinstance(rows.features[name], getattr(datasets, "Json", ())):
        return [None if cell is None else json.loads(cell) for cell in cells]
    return cells


def _as_json(cell: Any, like: Any) -> Any:
    """A number that no column of numbers holds is text, as JSON writes it."""
    return json.dumps(cell) if isinstance(like, str) and not isinstance(cell, str) else cell
