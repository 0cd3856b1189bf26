"""Figures and tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from samacli.lab.table.figures import Mean


def paragraph(text: str) -> list[str]:
    """The text and an empty line; nothing for an empty text."""
    return [text.strip(), ""] if text.strip() else []


def grid(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """A table, and an empty line."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def shown(mean: Mean | None, digits: int = 3, sign: str = "") -> str:
    """`0.912 ± 0.004`, a sample standard deviation; a dash where there is nothing."""
    if mean is None:
        return "–"
    text = f"{mean.mean:{sign}.{digits}f}"
    return text if mean.spread is None else f"{text} ± {mean.spread:.{digits}f}"


def difference(mean: Mean | None) -> str:
    """`+0.012 ± 0.004`, a standard error."""
    if mean is None:
        return "–"
    return f"{mean.mean:+.3f}" + ("" if mean.error is None else f" ± {mean.error:.3f}")


def bold(text: str, best: bool) -> str:
    """The text, in bold if it is the best."""
    return f"**{text}**" if best else text


def values(found: Iterable[object]) -> str:
    """Those that occur, in order of their first occurrence."""
    return ", ".join(dict.fromkeys(map(str, found)))


def counted(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
