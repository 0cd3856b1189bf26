"""What is wrong, or worth knowing, about splits side by side: shared rows and lacking classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samacli.data.labels import alike
from samacli.data.split import Split, Splits
from samacli.errors import SamaError, counted, nearest

_NAMES_SHOWN = 12


def check_classes(splits: Splits) -> None:
    """Refuse training and meta splits of a single class."""
    for split in (splits.train, splits.meta):
        if split is None:
            continue
        present = np.unique(split.labels[split.labels >= 0])
        if present.size < 2:
            only = f"only the class '{splits.classes[present[0]]}'" if present.size else "no class"
            name = "training" if split.name == "train" else split.name
            raise SamaError(
                f"the {name} split ({split.origin}) has {only}; classification needs two or more"
            )


def equal_rows(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Of each group of rows with one content (groups,): how many they are, and whether they have
    several labels."""
    _, group, counts = np.unique(split.content, return_inverse=True, return_counts=True)
    pairs = np.unique(np.stack([group, split.labels]), axis=1)[0]
    return counts, np.bincount(pairs, minlength=len(counts)) > 1


def known_rows_note(splits: Splits) -> str | None:
    """What becomes of training rows that the clean set has too; None where there are none."""
    meta, twins = splits.meta, splits.clean_twins
    known = np.flatnonzero(twins >= 0)
    if meta is None or not known.size:
        return None
    given = splits.train.labels[known]
    differ = int(((given >= 0) & (given != meta.labels[twins[known]])).sum())
    shared = splits.overlaps["meta, train"]["meta"]
    if differ:
        labels = counted(differ, "differs from the clean one", "differ from the clean ones")
        labels = f"the given label{'s' * (differ > 1)} of {labels}"
    elif known.size == 1:
        labels = "the given label is the clean one"
    else:
        labels = "the given labels are the clean ones"
    return (
        f"{shared:,} of {counted(len(meta), 'meta row')} also occur{'s' * (shared == 1)} in the "
        f"training split (same {_kind(splits)}): its "
        f"{counted(known.size, 'row with it counts', 'rows with them count')} as clean, not as "
        f"noisy; {labels}"
    )


def split_warnings(splits: Splits) -> list[str]:
    """Rows that must not be in two splits, and classes that one split has and another lacks."""
    train, meta = splits.train, splits.meta
    others = [split for split in (meta, splits.validation, splits.test) if split is not None]
    warnings = []
    for pair, shared in splits.overlaps.items():
        (name, rows), (other, _) = shared.items()
        if pair != "meta, train":  # which is no mistake, see `known_rows_note`
            other = "training" if other == "train" else other
            warnings.append(
                f"{rows:,} of {counted(len(getattr(splits, name)), f'{name} row')} also "
                f"occur{'s' * (rows == 1)} in the {other} split (same {_kind(splits)})"
            )
    if meta is not None:
        lacking = np.setdiff1d(train.labels[train.labels >= 0], meta.labels)
        warnings += _about_classes("the meta split has no row of", lacking, splits)
    for split in others:
        warnings += _untrained(split, splits)
    return warnings + alike_warnings(splits.classes)


def _kind(splits: Splits) -> str:
    return "image" if splits.task == "image-classification" else "text"


def alike_warnings(classes: Sequence[str]) -> list[str]:
    """Classes that are probably one, written in several ways."""
    return [
        f"the classes {' and '.join(map(repr, group))} are told apart, though their names differ "
        "only in how they are written; make them one if they mean the same"
        for group in alike(classes)
    ]


def _untrained(split: Split, splits: Splits) -> list[str]:
    unknown = np.setdiff1d(split.labels, splits.train.labels)
    warnings = _about_classes(
        f"no row of the training split is given a class that the {split.name} split has:",
        unknown,
        splits,
    )
    return [warning + _meant(unknown, splits) for warning in warnings]


def _about_classes(fact: str, numbers: np.ndarray, splits: Splits) -> list[str]:
    if numbers.size == 0:
        return []
    names = ", ".join(f"'{splits.classes[number]}'" for number in numbers[:_NAMES_SHOWN])
    more = " …" if numbers.size > _NAMES_SHOWN else ""
    return [f"{fact} class {names}{more}" if fact.endswith("of") else f"{fact} {names}{more}"]


def _meant(numbers: np.ndarray, splits: Splits) -> str:
    """What a single class may have been meant to be."""
    trained = [splits.classes[number] for number in np.unique(splits.train.labels) if number >= 0]
    return nearest(splits.classes[numbers[0]], trained) if numbers.size == 1 else ""
