"""Which columns of a table are the text or the image and the label, where nobody said so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets

from samacli.data.table import Table
from samacli.errors import SamaError
from samacli.recipe.schema import Columns, Task

_TEXTS = ("text", "sentence", "content", "review", "comment", "message", "body", "document",
          "tweet", "utterance", "query", "question", "description", "title")  # fmt: skip
_IMAGES = ("image", "img", "picture", "photo", "file_name", "filename", "file", "path")
_LABELS = ("label", "labels", "class", "category", "target", "given_label", "noisy_label",
           "sentiment", "intent", "topic", "y", "tag")  # fmt: skip
_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_LOOKED_AT = 1000  # rows


def guess_columns(table: Table, given: dict[str, str]) -> tuple[Task, Columns, list[str]]:
    """The task, the columns, and which of them ("text", "image", "label") were guessed.

    By usual names, types, and the first thousand rows: the text is the string column of the longest
    values, the label that of the fewest different ones. given: what is known, by the same names; it
    is taken as it is.

    Raises:
        SamaError: no column can be one of them.
    """
    rows = table.rows.select(range(min(_LOOKED_AT, len(table.rows))))
    names = [name for name in rows.column_names if name not in given.values()]
    found = dict(given)
    # Undecoded: an image that is broken is no reason to know no columns.
    plain = rows.select_columns([n for n in names if not _is_image(rows.features[n])])
    values: dict[str, list[Any]] = {name: list(plain[name]) for name in plain.column_names}
    if "text" not in given and "image" not in given:
        images = [name for name in names if _holds_images(rows.features[name], values.get(name))]
        strings = [name for name in values if _is_text(rows.features[name]) and name not in images]
        if images:
            found["image"] = _usual(images, _IMAGES) or images[0]
        elif strings:
            others = [name for name in strings if name.lower() not in _LABELS] or strings
            found["text"] = _usual(others, _TEXTS) or max(
                others, key=lambda name: sum(len(value or "") for value in values[name])
            )
        else:
            raise _unknown(table, "texts or images", "--text-column or --image-column")
    task: Task = "image-classification" if "image" in found else "text-classification"
    if "label" not in given:
        rest = [name for name in values if name not in found.values()]
        declared = [n for n in rest if isinstance(rows.features[n], datasets.ClassLabel)]
        found["label"] = (
            _usual(rest, _LABELS) or next(iter(declared), None) or _fewest(rest, values)
        ) or ""
        if not found["label"]:
            raise _unknown(table, "labels", "--label-column")
    guessed: list[str] = [
        name for name in ("text", "image", "label") if name in found and name not in given
    ]
    return task, Columns(**found), guessed


def _unknown(table: Table, what: str, option: str) -> SamaError:
    columns = ", ".join(table.rows.column_names[:12])
    return SamaError(
        f"no column of {table.origin} looks like one of {what}; its columns are: {columns}; name "
        f"it with {option}"
    )


def _usual(names: Sequence[str], usual: Sequence[str]) -> str | None:
    small = {name.strip().lower(): name for name in reversed(names)}
    return next((small[name] for name in usual if name in small), None)


def _fewest(names: Sequence[str], values: dict[str, list[Any]]) -> str | None:
    """The column of the fewest different values, of those with two or more that come again."""
    different = {name: len({str(v) for v in values[name] if v is not None}) for name in names}
    classes = [n for n in names if 2 <= different[n] <= max(2, len(values[n]) // 2)]
    return min(classes, key=lambda name: different[name], default=None)


def _is_text(feature: Any) -> bool:
    return getattr(feature, "dtype", None) in ("string", "large_string")


def _is_image(feature: Any) -> bool:
    kind = getattr(feature, "dtype", None)
    struct = isinstance(feature, dict) and {"bytes", "path"} <= set(feature)
    return isinstance(feature, datasets.Image) or kind in ("binary", "large_binary") or struct


def _holds_images(feature: Any, values: list[Any] | None) -> bool:
    """Images, or the names of their files."""
    if _is_image(feature) or not _is_text(feature):
        return _is_image(feature)
    named = [str(value).lower().endswith(_IMAGE_ENDINGS) for value in values or []]
    return bool(named) and all(named)
