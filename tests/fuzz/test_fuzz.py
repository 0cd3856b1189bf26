"""Any input either works or is refused with a SamaError of one sentence; nothing else is raised."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samacli.__main__ import main
from samacli.data import load_splits
from samacli.errors import SamaError
from samacli.recipe import dump_recipe, load_recipe
from samacli.recipe.load import read_yaml
from samacli.recipe.schema import Data
from tests.fuzz import inputs
from tests.fuzz.conftest import fuzzed


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
