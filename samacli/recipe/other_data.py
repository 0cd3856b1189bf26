"""A built-in recipe on other data than its own: what it says of its own is left aside.

`sama reweight trec --train my.csv` means the recipe's model and training, on rows that somebody
brings: not the clean set and the test set of TREC, and no noise in labels that are real.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Keys of `data:` that say where a recipe's own data are, how they are written, how they are split
# up, and what is done to them. The columns of inputs and labels stay: where a file lacks one, it is
# refused by name, and a copy of the recipe's data has them.
_OF_ITS_OWN = (
    "path",
    "source",
    "config",
    "revision",
    "meta",
    "validation",
    "test",
    "meta_per_class",
    "test_fraction",
    "max_train_rows",
    "max_test_rows",
    "abstain",
    "minus_one",
    "quoting",
    "escape",
    "image_root",
    "clean_given_labels",
    "noise",
)
# Columns beside those of inputs and labels: whoever names one of the latter names these too.
_BESIDE = ("true_label", "text_pair", "id")
_MAIN = ("text", "image", "label")


def aside(
    built_in: Mapping[str, Any], later: Sequence[tuple[str, Any]], *, rows: bool = False
) -> dict[str, Any]:
    """Keys (dotted, a section's with all below it) of a built-in recipe that describe its own data
    only, with their values; none where it runs on these.

    built_in: what it says, section in section. later: dotted keys and values that are said over
    it. rows: a program brings its training rows, whatever they are called.
    """
    data = built_in.get("data")
    said = {key.removeprefix("data."): v for key, v in later if key.startswith("data.")}
    if not isinstance(data, dict) or not (
        rows or _is_elsewhere(said.get("train"), said.get("path", data.get("path")))
    ):
        return {}
    found = {f"data.{key}": data[key] for key in _OF_ITS_OWN if key in data}
    columns = data.get("columns", {})
    usual = {key: columns.get(key, key) for key in _MAIN}
    if any(said.get(f"columns.{key}", column) != column for key, column in usual.items()):
        found |= {f"data.columns.{key}": columns[key] for key in _BESIDE if key in columns}
    return found


def _is_elsewhere(train: Any, path: Any) -> bool:
    """Whether a training split is a file or a folder that does not lie at the recipe's path."""
    if not isinstance(train, str):
        return False
    try:
        given = Path(train).expanduser()
        # As where the data are read: a plain word is a split's name, where nothing is called so.
        if not (given.suffix or "/" in train) and (train == "train" or not given.exists()):
            return False
        if not isinstance(path, str):
            return True
        own = Path(path).expanduser()
        places = [place for place in (given, own / train) if place.exists()]
        return not any(place.resolve().is_relative_to(own.resolve()) for place in places)
    except (ValueError, RuntimeError, OSError):  # no path at all, which the schema says
        return False


def sentence(name: str, left: Mapping[str, Any], said: Sequence[str]) -> str | None:
    """What is told of it; None where nothing is left aside that is not said anew.

    said: the keys that are.
    """
    anew = {".".join(key.split(".")[:depth]) for key in said for depth in (2, 3)}
    keys = [key for key in left if key not in anew]
    if not keys:
        return None
    return (
        f"what recipe '{name}' says of its own data is left aside: {', '.join(keys)}; "
        "say anew what holds for yours too"
    )
