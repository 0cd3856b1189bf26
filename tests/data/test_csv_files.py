"""CSV: what is written is what is read, and a quote that nobody meant swallows no rows."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samacli.data.csv_files import CsvStyle, read_csv
from samacli.errors import SamaError

HEADER = "text\tlabel\n"


def read(path: Path, content: str, **style: str) -> list[list[object]]:
    path.write_text(content, encoding="utf-8", newline="")
    rows = read_csv([path], "\t" if path.suffix == ".tsv" else ",", CsvStyle(**style))
    return [list(row.values()) for row in rows]


def refused(path: Path, content: str, **style: str) -> str:
    with pytest.raises(SamaError) as caught:
        read(path, content, **style)
    return str(caught.value).replace(f"{path}: ", "")


# Quotes

SWALLOWING = [
    # a quote at the start of a text, closed by the next text's
    '"Brilliant, he said\tpos\n"Awful"\tneg\nfine\tpos\n',
    # closed as quoted cells are, before a tab
    'fine\tpos\n"Brilliant, he said\tpos\nawful\tneg\nthe end"\tpos\n',
    'fine\tpos\nbad\tneg\n"Brilliant\tpos\nso bad"\tneg\n',
    # never closed
    'fine\tpos\n"Brilliant, he said\tpos\nawful\tneg\n',
    # closed, with characters after it
    '"Brilliant" he said\tpos\nawful\tneg\n',
]


@pytest.mark.parametrize("rows", SWALLOWING)
@pytest.mark.parametrize("ending", ["tsv", "csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_stray_quote_is_refused_or_read_as_a_character(
    tmp_path: Path, rows: str, ending: str, end: str
) -> None:
    content = HEADER + rows
    if ending == "csv":
        content = content.replace(",", "").replace("\t", ",")
    path = tmp_path / f"t.{ending}"
    sentence = refused(path, content.replace("\n", end))
    line = next(i for i, one in enumerate(content.split("\n"), 1) if one.startswith('"'))
    assert sentence.startswith(f"a quote that opens a cell of the row in line {line} ")
    assert "data.quoting=none" in sentence
    found = read(path, content.replace("\n", end), quoting="none")
    separator = "\t" if ending == "tsv" else ","
    assert found == [line.split(separator) for line in content.split("\n")[1:-1]]


def test_backslash_before_quotes(tmp_path: Path) -> None:
    content = 'text,label\n"she said \\"no thanks\\" and left, then",neg\nok,pos\n'
    sentence = refused(tmp_path / "t.csv", content)
    assert "line 2 is closed in line 2, and characters follow it" in sentence
    assert "data.escape=backslash" in sentence
    rows = read(tmp_path / "t.csv", content, escape="backslash")
    assert rows == [['she said "no thanks" and left, then', "neg"], ["ok", "pos"]]


def test_texts_of_several_lines_are_no_suspects(tmp_path: Path) -> None:
    """With separators in them, and quotes within."""
    texts = ["Dear John,\nhow are you, and\nMary?\n", 'a "b", c\r\nd', "one,two\nthree,four", "\n"]
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["text", "label"], *((text, "pos") for text in texts)])
    assert read(tmp_path / "t.csv", buffer.getvalue()) == [[text, "pos"] for text in texts]


def test_a_text_that_quotes_a_row_is_read_if_it_is_trusted(tmp_path: Path) -> None:
    content = 'text,label\n"as in\nfine,pos\nand so on",neg\nfine,pos\n'
    sentence = refused(tmp_path / "t.csv", content)
    assert "over what looks like other rows (with 'fine' in column 'text')" in sentence
    assert sentence.endswith("if that text is right so, set data.quoting=trusted")
    rows = read(tmp_path / "t.csv", content, quoting="trusted")
    assert rows == [["as in\nfine,pos\nand so on", "neg"], ["fine", "pos"]]


def test_quotes_within_a_cell_are_characters(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", 'text,label\n5" pipe,x\nso "called",y\n')
    assert rows == [['5" pipe', "x"], ['so "called"', "y"]]


@pytest.mark.parametrize("separator", ";\t|")
def test_another_separator_is_seen_by_the_header(tmp_path: Path, separator: str) -> None:
    content = f"text{separator}label\na, b{separator}x\n"
    assert read(tmp_path / "t.csv", content) == [["a, b", "x"]]


# Cells

ODD = ["001", "02134", "1e3", "123456789012345678901", "9007199254740993.0", "1.10", "+5", "-0",
       " 7", "0x1F", "1_000", "NA", "nan", "inf", "1e999", "true", "2020-01-01", "10:00", "1,5",
       "None", "٣", ""]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_a_number_that_is_written_otherwise_is_text(tmp_path: Path, odd: str) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["text", "x"], ["a", "12"], ["b", odd]])
    rows = read(tmp_path / "t.csv", buffer.getvalue())
    assert rows == [["a", 12], ["b", None]] if odd == "" else rows == [["a", "12"], ["b", odd]]


def test_columns_of_numbers_are_numbers(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", "a,b,c\n1,0.5,x\n-20,1e+20,\n,,\n")
    assert rows == [[1, 0.5, "x"], [-20, 1e20, ""], [None, None, ""]]


def test_a_number_far_down_that_is_none(tmp_path: Path) -> None:
    rows = read(tmp_path / "t.csv", "a,b\n" + "1,2\n" * 12_000 + "01,2\n")
    assert rows[0] == ["1", 2]
    assert rows[-1] == ["01", 2]


cells = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(ODD),
    st.from_regex(r"[-+]?[0-9]{1,20}(\.[0-9]{1,3})?(e[0-9])?", fullmatch=True),
)


def as_written(value: object) -> str:
    return "" if value is None else str(value)


@given(
    st.integers(1, 3).flatmap(
        lambda width: st.lists(
            st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6
        )
    ),
    st.sampled_from([",", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_every_cell_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], separator: str, end: str
) -> None:
    header = [f"column{i}" for i in range(len(rows[0]))]
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([header, *rows])
    path = tmp_path_factory.mktemp("csv") / ("t.csv" if separator == "," else "t.tsv")
    found = read(path, buffer.getvalue(), quoting="trusted")
    assert [[as_written(value) for value in row] for row in found] == rows
