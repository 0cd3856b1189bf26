"""Hostile text is harmless where it goes out, and nothing is lost on the way."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samacli.data.sheet import csv_cell, csv_text
from samacli.export.escape import one_line, printable, write_csv

ANYTHING = st.text(st.characters() | st.sampled_from("=+-@'\t\r\n \x1b\x9b\u202e"))


@given(ANYTHING)
def test_no_control_character_is_printable(text: str) -> None:
    shown = printable(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n"]
    assert not [
        c
        for c in shown
        if unicodedata.bidirectional(c)
        in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    ]
    shown.encode()
    assert "\n" not in one_line(text)
    assert len(one_line(text, 10)) <= 10


def test_escape_sequences_lose_their_escape() -> None:
    assert printable("a\x1b[31mred\x1b[0m\x07\r\nb\tü") == "a�[31mred�[0m�\nb\tü"
    assert printable("plain, and 中文 🎈 too") == "plain, and 中文 🎈 too"


@pytest.mark.parametrize(
    "text",
    ["=cmd()", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", " =1+1", "＝1", "'=1", "''@a", "-inf"],
)
def test_formulas_get_a_quote(text: str) -> None:
    assert csv_cell(text) == "'" + text


@pytest.mark.parametrize("value", ["-1", "+3.5e-2", "text", "it's", "'quoted'", "a=b", "", -1.5, 3])
def test_what_is_no_formula_stays(value: object) -> None:
    assert csv_cell(value) == value


@given(ANYTHING)
def test_no_cell_starts_a_formula_and_each_gives_its_text_back(text: str) -> None:
    cell = csv_cell(text)
    assert csv_text(cell) == text
    if cell[:1] in set("=+-@\t\r\n"):
        float(cell)


def test_files_are_read_back_by_the_standard_library(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["=name", "n"], [["=cmd()\nmore", 1.5], ['"quoted", too', -2]])
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["'=name", "n"], ["'=cmd()\nmore", "1.5"], ['"quoted", too', "-2"]]
