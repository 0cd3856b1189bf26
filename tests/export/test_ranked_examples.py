"""Lists of kept rows, and the examples at both ends of a ranking."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from samacli.export.kept import write_keep_lists
from samacli.export.pruning_curve import write_curve
from samacli.export.ranked_examples import write_pictures, write_texts
from samacli.pruning.curve import Point


def test_kept_rows_are_numbered_as_in_the_input(tmp_path: Path) -> None:
    index = np.array([0, 2, 5, 7])  # rows 1, 3, 4 and 6 of the input had no label
    write_keep_lists(tmp_path, index, {"0.5": np.array([3, 1]), "1": np.array([2])})
    assert (tmp_path / "keep.txt").read_text() == "2\n7\n"
    assert (tmp_path / "keep-0.5.txt").read_text() == "2\n7\n"
    assert (tmp_path / "keep-1.txt").read_text() == "5\n"


def test_texts_of_both_ends_are_listed_by_class_and_cannot_break_the_page(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict(
        {"text": [f"word{i} # [x](y)\nend" for i in range(60)], "label": [i % 2 for i in range(60)]}
    )
    scores = np.arange(60.0)
    labels = np.array([i % 2 for i in range(60)])
    index = np.arange(60) + 100
    write_texts(tmp_path / "examples.md", scores, labels, rows, index, ["a", "b*"], ["text"])
    parts = (tmp_path / "examples.md").read_text().split("## ")[1:]
    assert [part.splitlines()[0] for part in parts] == [
        "a: highest",
        "a: lowest",
        "b\\*: highest",
        "b\\*: lowest",
    ]
    highest, lowest = (
        [int(line.split(",")[0][2:]) for line in part.splitlines() if line.startswith("- ")]
        for part in parts[:2]
    )
    assert highest == list(range(158, 128, -2)), "half of the class at most"
    assert lowest == list(range(100, 130, 2))
    assert not set(highest) & set(lowest)
    assert "- 158, 58.00: word58 \\# \\[x\\](y) end" in parts[0]


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pictures_are_named_by_class_whatever_it_is_called(tmp_path: Path, mode: str) -> None:
    images = [Image.new(mode, (4, 4), 40 * i if mode == "L" else (40 * i, 0, 0)) for i in range(5)]
    rows = datasets.Dataset.from_dict(
        {"image": images}, features=datasets.Features({"image": datasets.Image()})
    )
    labels = np.array([0, 0, 0, 1, -1])
    write_pictures(
        tmp_path / "pictures",
        np.arange(5.0),
        labels,
        rows,
        np.arange(5),
        ["a/b c", "../.."],
        "image",
    )
    files = sorted((tmp_path / "pictures").iterdir())
    assert [file.name for file in files] == ["000-a-b-c.png", "001.png"]
    for file in files:
        assert np.asarray(Image.open(file)).std() > 0, "something is drawn"


def test_the_curve_has_a_line_for_every_subset(tmp_path: Path) -> None:
    points = [
        Point("full", "", 100, "steps", 10, (0.9, 0.92)),
        Point("sama", "0.5", 50, "steps", 10, (0.88, 0.9)),
        Point("sama", "0.5", 50, "epochs", 5, (0.8,)),
    ]
    write_curve(tmp_path, points, ["keep it all"])
    assert "| full | all | 100 | 0.910 ± 0.014 (10) |  |" in (tmp_path / "curve.md").read_text()
    assert (
        "| sama | 0.5 | 50 | 0.890 ± 0.014 (10) | 0.800 (5) |"
        in (tmp_path / "curve.md").read_text()
    )
    assert "- keep it all" in (tmp_path / "curve.md").read_text()
    assert len((tmp_path / "curve.csv").read_text().splitlines()) == 4
    assert (tmp_path / "curve.png").stat().st_size > 0
