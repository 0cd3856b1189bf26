"""What a run begins with: its rows and classes, and rows that are there twice."""

from __future__ import annotations

from samacli.data import Split, Splits
from samacli.data.overlap import equal_rows
from samacli.errors import counted

ROLES = ("train", "meta", "validation", "test")


def opening_lines(splits: Splits) -> list[str]:
    """Of what a run begins with: rows and classes, and rows that are there twice; a line each."""
    there = {role: split for role in ROLES if (split := getattr(splits, role)) is not None}
    rows = ", ".join(f"{len(split):,} {called(role)}" for role, split in there.items())
    counts = {n: count for n, count in splits.train.class_rows(splits.classes).items() if count}
    rarest = min(counts, key=lambda name: counts[name])
    largest = max(counts, key=lambda name: counts[name])
    twice = []
    for role, split in there.items():
        copies = copies_of(split)
        if copies["rows"]:
            torn = copies["other_label"]
            other = f" ({torn:,} with another label)" if torn else ""
            what = called(role)
            are = counted(copies["rows"], f"{what} row is a copy", f"{what} rows are copies")
            twice.append(f"{are}{other}")
        if role != "train":
            shared = splits.overlaps.get(f"{role}, train", {}).get(role, 0)
            if shared:
                what = called(role)
                too = (f"{what} row is a training row", f"{what} rows are training rows")
                twice.append(f"{counted(shared, *too)} too")
    return [
        f"rows: {rows}; {len(splits.classes)} classes, the rarest {rarest} "
        f"({counted(counts[rarest], 'training row')}), the largest {largest} "
        f"({counts[largest]:,})",
        f"twice: {'; '.join(twice) or 'no row, neither within a split nor in two'}",
    ]


def copies_of(split: Split) -> dict[str, int]:
    """rows: how many are the same as one before them; other_label: of these, how many whose group
    of equal rows has more than one label."""
    counts, torn = equal_rows(split)
    return {"rows": int(len(split) - len(counts)), "other_label": int((counts - 1)[torn].sum())}


def called(role: str) -> str:
    return "training" if role == "train" else role
