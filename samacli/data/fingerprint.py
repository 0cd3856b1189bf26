"""What tells one state of the data from another."""

from __future__ import annotations

import hashlib

import numpy as np

from samacli.data.split import Split, Splits


def fingerprints(splits: Splits) -> dict[str, str]:
    """Of each split there is, by name: equal for the same rows in the same order with the same
    labels of the same classes, whatever file they came from."""
    found = {name: getattr(splits, name) for name in ("train", "meta", "validation", "test")}
    return {
        name: _fingerprint(split, splits.classes)
        for name, split in found.items()
        if split is not None
    }


def fingerprint_of(values: np.ndarray) -> str:
    """Of an array: 32 hexadecimal digits."""
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).hexdigest()


def _fingerprint(split: Split, classes: list[str]) -> str:
    digest = hashlib.blake2b(repr(classes).encode(), digest_size=16)
    for values in (
        split.content,
        split.labels,
        split.true_labels,
        split.given_labels,
        split.votes,
    ):
        digest.update(b"-" if values is None else fingerprint_of(values).encode())
    return digest.hexdigest()
