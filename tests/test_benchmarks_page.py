"""The page of measurements says what the measured rows say."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs" / "benchmarks"
# Folders of what `sama bench` wrote; gpu's page has a test of its own, tests/lab/test_gpu_pack.py.
PLACES = sorted({file.parent for file in DOCS.glob("*/*.json")})


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("folder", PLACES, ids=lambda folder: folder.name)
def test_no_figure_on_the_page_is_typed_in(script: ModuleType, folder: Path) -> None:
    rows, bias = script.read(folder)
    text = folder.with_suffix(".md").read_text(encoding="utf-8")
    assert text == "\n".join(script.page(rows, bias))
    assert folder.with_suffix(".png").is_file()


@pytest.mark.parametrize("folder", PLACES, ids=lambda folder: folder.name)
def test_rows_have_the_fields_that_others_read(folder: Path) -> None:
    names = {
        "estimator", "samples_per_second", "peak_memory_bytes", "relative_throughput",
        "relative_memory", "device", "world_size",
    }  # fmt: skip
    for file in folder.glob("*.json"):
        if file.name != "local_direction.json":
            assert all(names <= row.keys() for row in json.loads(file.read_text()))
