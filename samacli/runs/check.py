"""`sama check`: what is in the data, and what is wrong with them, before anything is trained."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import datasets
import numpy as np
from PIL import Image

from samacli.data import Split, load_splits
from samacli.data.guess import guess_columns
from samacli.data.pixels import encoded_bytes, undecoded_values
from samacli.data.sources import make_opener
from samacli.data.table import quiet_datasets
from samacli.data.text import longest
from samacli.errors import SamaError, counted
from samacli.models import load_processor
from samacli.progress import Progress, Silent
from samacli.recipe import Recipe, resolve_paths
from samacli.runs.ahead import Ahead, look_ahead
from samacli.runs.opening import ROLES, called, copies_of
from samacli.training.runtime import DeviceName

_ROWS_AT_ONCE = 1000
_NEAR_EMPTY = 3  # letters and digits; fewer say nothing


@dataclass(frozen=True)
class Checked:
    """What `check` found; splits by their names ("train", "meta", "test").

    columns: "text" or "image" and "label", the `guessed` among them. rows: of each split. classes:
    labelled rows by class name. copies: of each split, see `copies_of`. texts: of each split, see
    `lengths_of`; images: see `sizes_of`. problems: what stops a run or spoils its result; remarks:
    what may be as it should. ahead: what training would take; None where a problem forbids it.
    """

    task: str
    columns: dict[str, str]
    guessed: list[str]
    rows: dict[str, int] = field(default_factory=dict)
    classes: dict[str, dict[str, int]] = field(default_factory=dict)
    copies: dict[str, dict[str, int]] = field(default_factory=dict)
    texts: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    ahead: Ahead | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check(
    recipe: Recipe,
    given: Mapping[str, str],
    *,
    tokens: bool = False,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> Checked:
    """Read the data that a recipe names as a run would, and look at them.

    given: the columns that are known ("text", "image", "label"); the others are guessed from the
    training rows. tokens: measure texts by the recipe's tokenizer, else by words. device: where a
    step of training is tried.

    Raises:
        SamaError: a file cannot be read, no column can be the text or the label, or the tokenizer
            does not load. What is wrong with the rows is told as a problem.
    """
    progress = progress or Silent()
    recipe = resolve_paths(recipe)
    assert recipe.data.train is not None
    with quiet_datasets():
        table = make_opener(recipe.data)(recipe.data.train, "data.train")
        task, columns, guessed = guess_columns(table, dict(given))
    data = recipe.data.model_copy(update={"columns": columns})
    kind = "image" if task == "image-classification" else "text"
    named = {name: getattr(columns, name) for name in (kind, "label")}
    try:
        splits = load_splits(data, task, progress)
    except SamaError as error:
        return Checked(task, named, guessed, problems=[str(error)])
    there = {role: split for role in ROLES if (split := getattr(splits, role)) is not None}
    tokenizer = load_processor(recipe.model, task) if tokens and kind == "text" else None
    found = Checked(
        task,
        named,
        guessed,
        rows={role: len(split) for role, split in there.items()},
        classes={role: split.class_rows(splits.classes) for role, split in there.items()},
        copies={role: copies_of(split) for role, split in there.items()},
        problems=list(splits.warnings),
        remarks=list(splits.notes),
    )
    for role, split in there.items():
        if kind == "text":
            found.texts[role] = lengths_of(split, columns.text, data.max_length, tokenizer)
        else:
            found.images[role] = sizes_of(split, columns.image)
        _remark(found, role, data.max_length)
    read = recipe.model_copy(update={"data": data, "task": task})
    labelled = int((splits.train.labels >= 0).sum())
    return replace(found, ahead=look_ahead(read, found.rows, labelled, device))


def _remark(found: Checked, role: str, max_length: int) -> None:
    """Add what is worth a word on one split."""
    name, rows = called(role), found.rows[role]
    copies = found.copies[role]
    if copies["rows"]:
        other = f", {copies['other_label']:,} of them with another label" * (
            copies["other_label"] > 0
        )
        are = "is a copy" if copies["rows"] == 1 else "are copies"
        found.remarks.append(f"{copies['rows']:,} of {counted(rows, f'{name} row')} {are}{other}")
    texts = found.texts.get(role)
    if texts is None:
        return
    if texts["longer"]:
        least = "" if texts["unit"] == "tokens" else "at least "
        found.remarks.append(
            f"{least}{texts['longer']:,} of {counted(rows, f'{name} text')} "
            f"{'is' if texts['longer'] == 1 else 'are'} longer than "
            f"{texts['max_length']} tokens (data.max_length) and would be cut there"
        )
    for key, one, many, what in (
        ("near_empty", "holds", "hold", f"fewer than {_NEAR_EMPTY} letters or digits"),
        ("few_letters", "is", "are", "for the most part no letters"),
    ):
        if texts[key]:
            found.remarks.append(
                f"{texts[key]:,} of {counted(rows, f'{name} text')} "
                f"{one if texts[key] == 1 else many} {what}; the first is row "
                f"{texts[f'first_{key}']} (counted from 0)"
            )


def lengths_of(split: Split, column: str, max_length: int, tokenizer: Any) -> dict[str, Any]:
    """Lengths of the texts, in the tokenizer's tokens or, without one, in words.

    longer: texts that would be cut at `max_length`; by words, at least so many, since a word has a
    token or more. near_empty, few_letters: texts that say little, with the first one's row.
    """
    lengths = np.zeros(len(split), dtype=np.int64)
    poor: dict[str, list[int]] = {"near_empty": [], "few_letters": []}
    row = 0
    for batch in split.rows.select_columns([column]).with_format("arrow").iter(_ROWS_AT_ONCE):
        texts = batch[column].to_pylist()
        if tokenizer is None:
            counts = [len(text.split()) for text in texts]
        else:
            counts = [len(ids) for ids in tokenizer(texts, verbose=False)["input_ids"]]
        lengths[row : row + len(texts)] = counts
        for place, text in enumerate(texts, row):
            shown = [c for c in text if not c.isspace()]
            said = sum(c.isalnum() for c in shown)
            if said < _NEAR_EMPTY and not any(ord(c) > 0x2E7F for c in shown):  # 好 says enough
                poor["near_empty"].append(place)
            elif 2 * sum(not c.isalpha() for c in shown) > len(shown):
                poor["few_letters"].append(place)
        row += len(texts)
    limit = max_length if tokenizer is None else longest(tokenizer, max_length)
    median, most = np.quantile(lengths, [0.5, 0.95])
    return {
        "unit": "words" if tokenizer is None else "tokens",
        "median": float(median),
        "95%": float(most),
        "longest": int(lengths.max()),
        "max_length": limit,
        "longer": int((lengths > limit).sum()),
        **{key: len(rows) for key, rows in poor.items()},
        **{f"first_{key}": int(split.index[rows[0]]) for key, rows in poor.items() if rows},
    }


def sizes_of(split: Split, column: str) -> dict[str, Any]:
    """The smallest, the median and the largest image by area, (width, height) in pixels, and how
    many different sizes there are."""
    raw = split.rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    sizes = []
    for row, value in enumerate(undecoded_values(raw, column)):
        data = encoded_bytes(value, f"row {split.index[row]} (counted from 0) of {split.origin}")
        with Image.open(io.BytesIO(data)) as image:
            sizes.append(image.size)
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    named = {"smallest": ordered[0], "median": ordered[len(ordered) // 2], "largest": ordered[-1]}
    return {**{k: list(size) for k, size in named.items()}, "different": len(set(sizes))}
