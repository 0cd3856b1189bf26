"""The pages of results say what the committed rows say."""

from __future__ import annotations

from pathlib import Path

import pytest

from samacli.lab.table.description import built_in_tables, load_table
from samacli.lab.table.page import texts
from samacli.lab.table.plan import plan
from samacli.lab.table.rows import Ledger, Store

RESULTS = Path(__file__).parents[1] / "docs" / "results"


@pytest.mark.parametrize("name", sorted(built_in_tables()))
def test_no_figure_on_the_page_is_typed_in(name: str) -> None:
    store = Store(RESULTS, name)
    if not store.file.is_file():
        pytest.skip(f"nothing is measured yet: make table-{name}")
    rows, notes = store.read()
    assert notes == []
    table = load_table(name)
    made = texts(table, plan(table), Ledger(store, rows), store.code_then())
    for ending, text in made.items():
        page = RESULTS / f"{name}.{ending}"
        assert page.read_text(encoding="utf-8") == text, (
            f"make it again: make table-{name} ARGS=--render"
        )
    assert (RESULTS / f"{name}.png").is_file()
