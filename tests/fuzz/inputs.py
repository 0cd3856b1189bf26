"""Inputs as people and attackers write them: near to what is right, far from it, and random.

Every strategy gives what a file or an argument holds. Most draw a right input and break it in a
few places: random bytes alone would never come past the first check.
"""

from __future__ import annotations

import csv
import json
from typing import Any

import yaml
from hypothesis import assume
from hypothesis import strategies as st

from samacli.recipe.load import _keys, built_in_recipes
from samacli.recipe.schema import Recipe

KEYS = [*_keys(Recipe), "extends", "preset"]
RECIPES = sorted(built_in_recipes())
# What parsers trip over: separators, quotes, comments, tags, anchors, nulls, surrogates.
MARKS = [
    *'\n\r\t ,;:"\'{}[]#&*!|>%@`~-?.=\\/\0\x1b\ufeff\u2028\u202e\x85é𝔘',
    "\r\n", "---\n", "...\n", "<<: *a", "!!python/object/apply:os.system ['true']", "1e999",
    "-0", "NaN", ".inf", "null", "true", "2024-99-99", "0x7fffffffffffffffff", "1_000", "[[",
    "&a [*a]",
    "9" * 40, "9" * 5000, '""', "''", "{}", "[]", "=1+1", "\\ud800", "\\u0000", "<!--", "../",
    "%s", "{0}",
]  # fmt: skip
WORDS = st.one_of(st.sampled_from(MARKS), st.text(max_size=12))

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 10**400]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["train", "none", "sama", "auto", "text", "hub", "csv", *MARKS]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def broken(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    """A text with up to four pieces taken out, doubled, or something put in their place."""
    text = draw(texts)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(st.one_of(WORDS, st.just(text[start:end] * 2))) + text[end:]
    return text


def as_bytes(texts: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """As UTF-8, as other encodings, and with stray bytes."""

    @st.composite
    def encoded(draw: st.DrawFn) -> bytes:
        text = draw(texts)
        how = draw(st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-32", "latin-1"]))
        data = text.encode(how, "surrogatepass" if how.startswith("utf") else "replace")
        if draw(st.integers(0, 5)) == 0:
            at = draw(st.integers(0, len(data)))
            data = data[:at] + draw(st.binary(max_size=4)) + data[at:]
        return data

    return encoded()


# Recipes


def _nested(flat: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for dotted, value in flat.items():
        *sections, last = dotted.split(".")
        place = content
        for section in sections:
            inner = place.setdefault(section, {})
            place = inner if isinstance(inner, dict) else {}
        place[last] = value
    return content


def _dumped(content: Any) -> str:
    return yaml.safe_dump(content, allow_unicode=True)


_mappings = st.dictionaries(st.sampled_from(KEYS), values, max_size=5).map(_nested)
_own = st.sampled_from([path.read_text(encoding="utf-8") for path in built_in_recipes().values()])
_extending = st.builds(
    lambda name, content: _dumped({**content, "extends": name}),
    st.one_of(st.sampled_from(RECIPES), WORDS),
    _mappings,
)
recipe_texts = st.one_of(
    broken(_mappings.map(_dumped)),
    broken(_own),
    _extending,
    broken(values.map(_dumped)),
    st.lists(WORDS, max_size=8).map("".join),
)
recipe_files = as_bytes(recipe_texts)
overrides = st.one_of(
    st.builds(
        lambda key, value: f"{key}={value}",
        st.one_of(st.sampled_from(KEYS), WORDS, st.lists(WORDS, max_size=4).map(".".join)),
        st.one_of(values.map(json.dumps), values.map(str), WORDS),
    ),
    st.lists(WORDS, max_size=4).map("".join),
)

# Tables

_cells = st.one_of(st.sampled_from(["good", "bad", "0", "1", "-1", "", "NA", *MARKS]), WORDS)
_label_cells = st.one_of(st.sampled_from(["good", "bad", "0", "1", "-1", ""]), _cells)


@st.composite
def _csv(draw: st.DrawFn) -> str:
    header = draw(
        st.one_of(
            st.just(["text", "label"]), st.just(["label", "text", "x"]), st.lists(WORDS, max_size=4)
        )
    )
    rows = draw(
        st.lists(st.tuples(WORDS, _label_cells, _cells).map(lambda r: r[: len(header)]), max_size=6)
    )
    separator = draw(st.sampled_from([",", ",", ",", "\t", ";"]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    quoted = draw(st.booleans())

    def cell(value: str) -> str:
        return '"' + value.replace('"', '""') + '"' if quoted else value

    lines = [separator.join(map(cell, row)) for row in [header, *rows]]
    return end.join(lines) + draw(st.sampled_from(["", end]))


csv_files = as_bytes(broken(_csv()))

_records = st.one_of(
    st.fixed_dictionaries({"text": WORDS, "label": st.one_of(_label_cells, st.integers(-2, 3))}),
    st.fixed_dictionaries({"text": values, "label": values}),
    st.dictionaries(st.sampled_from(["text", "label", "x", ""]), values, max_size=3),
)
json_lines = as_bytes(broken(st.lists(_records.map(json.dumps), max_size=6).map("\n".join)))
json_files = as_bytes(broken(st.lists(_records, max_size=6).map(json.dumps)))

# WRENCH

_votes = st.lists(st.integers(-1, 1), min_size=2, max_size=2)
_entries = st.one_of(
    st.fixed_dictionaries(
        {
            "label": st.integers(-1, 1),
            "weak_labels": _votes,
            "data": st.fixed_dictionaries(
                {"text": WORDS},
                optional={
                    "span1": st.one_of(st.just([0, 1]), values),
                    "span2": st.one_of(st.just([0, 1]), values),
                    "label": values,
                    "weak_labels": values,
                    "x": values,
                },
            ),
        }
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "label": values,
            "weak_labels": st.one_of(_votes, st.lists(values, max_size=3), values),
            "data": st.one_of(st.dictionaries(st.text(max_size=4), values, max_size=2), values),
        },
    ),
)
_splits = st.one_of(
    st.lists(_entries, min_size=1, max_size=5).map(
        lambda rows: {str(i): row for i, row in enumerate(rows)}
    ),
    st.dictionaries(st.text(max_size=3), _entries, max_size=3),
    values,
)
_classes = st.one_of(
    st.just({"0": "HAM", "1": "SPAM"}), st.dictionaries(WORDS, values, max_size=3), values
)
wrench_files = as_bytes(broken(_splits.map(json.dumps)))
wrench_labels = as_bytes(
    st.one_of(st.just('{"0": "HAM", "1": "SPAM"}'), broken(_classes.map(json.dumps)))
)

# Tables whose cells must come out as they went in

IDENTIFIERS = ["001", "02134", "1e3", "123456789012345678901", "9007199254740993", "+49", "-0", "٣",
               "1.10", "0.5", "NA", "nan", "None", "null", "true", "2020-01-01", "12:30", "1_000",
               "0x1F", "1,5", " 7", "7 ", "", "=1+1", "∞", "e\u0301", "ｐｏｓ"]  # fmt: skip
_letters = st.characters(codec="utf-8", exclude_characters="\0")
_texts = st.text(_letters, min_size=1, max_size=10).filter(lambda text: text.strip())
_floats = st.floats(allow_nan=False, allow_infinity=False)
_columns = {
    "identifiers": st.sampled_from(IDENTIFIERS),
    "whole": st.integers(-(2**70), 2**70),
    "small": st.integers(-3, 3),
    "floats": _floats,
    "dates": st.dates().map(str),
    "texts": st.text(_letters, max_size=8),
    "booleans": st.booleans(),
    "mixed": st.one_of(st.integers(-3, 3), _floats, st.sampled_from(IDENTIFIERS), st.none()),
    "nested": st.one_of(
        st.lists(st.one_of(_floats, st.none()), max_size=2),
        st.dictionaries(st.sampled_from(["a", "b"]), st.one_of(_floats, st.integers(-3, 3))),
    ),
}
_labels = st.sampled_from(
    [("neg", "pos"), ("01", "02"), ("0", "1"), (0, 1), (True, False), (0.0, 1.0), (-1, 1),
     ("pos ", "neg"), ("ja", "nein, nie"), ("2020-01-01", "2021-01-01")]
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Columns `text`, `label` of two classes, and up to two of any kind; four rows or more."""
    rows = draw(st.integers(4, 8))
    pair = draw(_labels)
    labels = [*pair, *draw(st.lists(st.sampled_from(pair), min_size=rows - 2, max_size=rows - 2))]
    table = {"text": [f"{i} {draw(_texts)}" for i in range(rows)], "label": labels}
    for name in draw(st.lists(st.sampled_from(sorted(_columns)), max_size=2, unique=True)):
        table[name] = draw(st.lists(_columns[name], min_size=rows, max_size=rows))
    order = draw(st.permutations(sorted(table)))
    return {name: table[name] for name in order}


@st.composite
def naive_rows(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Rows of people who know of no quoting: a quote stands somewhere in some of the texts."""
    words = st.text("abcdef !?'", max_size=8).map(lambda text: f"{text}g")
    rows = [("plain", "pos"), ("simple", "neg")]
    for _ in range(draw(st.integers(1, 6))):
        before, after = draw(st.just("") | words), draw(words)
        quote = draw(st.sampled_from(["", '"', '"', '\\"']))
        turned = draw(st.booleans())
        text = after + quote + before if turned else before + quote + after
        rows.append((text, draw(st.sampled_from(["pos", "neg"]))))
    return draw(st.permutations(rows))


ENCODINGS = st.sampled_from(
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "mac-roman",
     "shift-jis", "gb18030", "koi8-r", "utf-7"]
)  # fmt: skip


@st.composite
def styles(draw: st.DrawFn) -> dict[str, Any]:
    """Of `csv.writer`, and how many blank lines stand between rows."""
    style: dict[str, Any] = {
        "delimiter": draw(st.sampled_from(",;\t|")),
        "lineterminator": draw(st.sampled_from(["\n", "\r\n", "\r"])),
        "quoting": csv.QUOTE_ALL,
        "blank": draw(st.sampled_from([0, 0, 1])),
    }
    if style["lineterminator"] == "\r\n" and draw(st.booleans()):
        style["quoting"] = csv.QUOTE_MINIMAL  # the writer looks for its own line end's characters
    if draw(st.booleans()):
        style |= {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL}
    return style


@st.composite
def texts_in_cells(draw: st.DrawFn) -> list[list[str]]:
    """Rows of a text with all that has a meaning in CSV, and a label."""
    marks = st.sampled_from([*",;\t|\"'\\\n\r ", '""', "\r\n", '\\"', "a", "é", "\u2028", "\x85"])
    texts = st.lists(marks, min_size=1, max_size=8).map("".join)
    rows = draw(st.lists(texts, min_size=2, max_size=5))
    return [[f"t{text}", f"c{place % 2}"] for place, text in enumerate(rows)]


@st.composite
def label_columns(draw: st.DrawFn) -> list[Any]:
    """Of two classes or three, of every type that a format may have."""
    kinds = [("neg", "pos"), (" a", "b "), ("01", "02", "1"), ("0", "1"), (0, 1), (True, False),
             (0.0, 1.0), (-1, 0, 1), (-1, 1), (7, 11, 100), ("ja", "nein, nie"), ("NaN", "x"),
             ("1e3", "1000"), ("true", "false"), ("TRUE", "FALSE"), ("x", "é"), ("1.5", "a"),
             (10**15, 10**15 + 1)]  # fmt: skip
    kind = draw(st.sampled_from(kinds))
    more = draw(st.lists(st.sampled_from(kind), max_size=5))
    return list(draw(st.permutations([*kind, *more])))


@st.composite
def row_ids(draw: st.DrawFn) -> list[Any]:
    kinds = [
        st.sampled_from(IDENTIFIERS),
        st.integers(0, 2**62),
        st.none(),
        _letters_of_ids,
        _floats,
    ]
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2))
    ids = draw(st.lists(st.one_of(chosen), min_size=4, max_size=8))
    # 7 beside 1.5 is 7.0 in a column of numbers.
    assume({type(name) for name in ids} - {type(None)} != {int, float})
    return ids


_letters_of_ids = st.text(_letters, max_size=6)

# Image folders: (path below the root, what it holds)

_folders = st.sampled_from(["cat", "dog", "test", "train", "Val", "a b", "[1]", "ñ", "{x}", "~"])
_endings = st.sampled_from([".png", ".jfif", ".JPEG", ".webp", ".bmp", "", ".x", ".heic", ".txt"])
image_folders = st.dictionaries(
    st.tuples(
        st.lists(_folders, min_size=1, max_size=3),
        st.integers(0, 5),
        _endings,
    ).map(lambda path: "/".join([*path[0], f"{path[1]}{path[2]}"])),
    st.booleans(),
    min_size=1,
    max_size=12,
)
