"""Any input either works or is refused with a SamaError of one sentence; nothing else is raised."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from samacli.__main__ import main
from samacli.data import load_splits
from samacli.errors import SamaError
from samacli.export.dataset import write_dataset
from samacli.recipe import dump_recipe, load_recipe
from samacli.recipe.load import read_yaml
from samacli.recipe.schema import Data
from tests.fuzz import inputs
from tests.fuzz.conftest import INPUTS

KINDS = 11
fuzzed = settings(
    max_examples=max(1, -(-INPUTS // KINDS)),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=INPUTS <= 300,  # the same inputs each time in the normal test suite
    database=None,
)


def works_or_is_refused(action: Callable[[], object]) -> None:
    try:
        action()
    except SamaError as error:
        sentence = str(error)
        assert sentence.strip()
        assert "Traceback" not in sentence


@fuzzed
@given(inputs.recipe_files)
def test_recipe_file(folder: Path, tried: Callable[[], None], content: bytes) -> None:
    tried()
    path = folder / "recipe.yaml"
    path.write_bytes(content)

    def read() -> None:
        recipe = load_recipe(str(path))
        # What is accepted is accepted again as it is written beside the results.
        (folder / "again.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
        assert repr(load_recipe(str(folder / "again.yaml"))) == repr(recipe)

    works_or_is_refused(read)


@fuzzed
@given(inputs.recipe_texts)
def test_recipe_text(tried: Callable[[], None], text: str) -> None:
    tried()
    works_or_is_refused(lambda: read_yaml(text, "fuzzed"))


@fuzzed
@given(st.lists(inputs.overrides, min_size=1, max_size=3))
def test_overrides(tried: Callable[[], None], overrides: list[str]) -> None:
    tried()
    works_or_is_refused(lambda: load_recipe(None, overrides))


@fuzzed
@given(inputs.csv_files, st.sampled_from(["csv", "tsv"]))
def test_csv(folder: Path, tried: Callable[[], None], content: bytes, ending: str) -> None:
    tried()
    path = folder / f"train.{ending}"
    path.write_bytes(content)
    works_or_is_refused(lambda: _table(path))


@fuzzed
@given(st.one_of(inputs.json_lines, inputs.json_files), st.sampled_from(["json", "jsonl"]))
def test_json(folder: Path, tried: Callable[[], None], content: bytes, ending: str) -> None:
    tried()
    path = folder / f"train.{ending}"
    path.write_bytes(content)
    works_or_is_refused(lambda: _table(path))


@fuzzed
@given(
    inputs.wrench_files,
    inputs.wrench_labels,
    st.sampled_from(["text", "marked_text", "x", "label", "weak_labels", "data_label"]),
)
def test_wrench(
    folder: Path, tried: Callable[[], None], content: bytes, labels: bytes, column: str
) -> None:
    tried()
    root = folder / "wrench"
    root.mkdir(exist_ok=True)
    (root / "train.json").write_bytes(content)
    (root / "label.json").write_bytes(labels)
    data = Data.model_validate({"path": str(root), "columns": {"text": column}})
    works_or_is_refused(lambda: load_splits(data, "text-classification"))


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
                quoting=csv.QUOTE_ALL if "quoted" in how else csv.QUOTE_MINIMAL,
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


def _run(*arguments: str) -> None:
    """`sama arguments` in this process: 0, or 2 and a message, and never a traceback."""
    said = io.StringIO()
    with (
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
        pytest.raises(SystemExit) as exit_,
    ):
        main(list(arguments))
    assert exit_.value.code in (0, 2, None), said.getvalue()
    assert "Traceback" not in said.getvalue()


@fuzzed
@given(inputs.recipe_files)
def test_command_line_recipe(folder: Path, tried: Callable[[], None], content: bytes) -> None:
    tried()
    path = folder / "shown.yaml"
    path.write_bytes(content)
    _run("recipes", "show", str(path), "--resolved")


@fuzzed
@given(st.lists(inputs.overrides, min_size=1, max_size=3))
def test_command_line_overrides(
    folder: Path, tried: Callable[[], None], overrides: list[str]
) -> None:
    tried()
    # The model is looked for first, and there is none: no run begins.
    _run("reweight", "--model", "/nowhere/at/all", "--output", str(folder / "out"), *overrides)


def _table(path: Path) -> None:
    """The file as training data, with a test split held out of it."""
    data = Data.model_validate({"train": str(path), "test": str(path), "test_fraction": 0.5})
    load_splits(data, "text-classification")


ODD_NAMES = ["\0.yaml", "a\0", "x" * 5000, "~nobody/x", "", ".", "\ud800", "https://u:p@h/x"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_of_files(name: str) -> None:
    works_or_is_refused(lambda: load_recipe(name))
    works_or_is_refused(lambda: load_recipe(f"{name}.yaml"))
    for key in ("data.path", "data.train", "model.name"):
        works_or_is_refused(lambda key=key: load_recipe(None, [], {key: name}))
