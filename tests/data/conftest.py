"""Shared by the tests of samacli.data: a cache of their own, small writers, a small tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image
from transformers import BertTokenizerFast

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Converted files and tokens go to a folder that goes away."""
    folder = tmp_path_factory.mktemp("hf-datasets")
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder
    yield folder
    datasets.config.HF_DATASETS_CACHE = before


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """The path of a data set in ../shared/data; skips where it is missing."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"needs {path}")
        return path

    return find


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write rows as a file: `write("train.csv", [("a text", "label"), …])`; returns its path."""

    def write_rows(
        name: str, rows: Sequence[Sequence[Any]], columns: Sequence[str] = ("text", "label")
    ) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".csv", ".tsv"):
            import csv

            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
                writer.writerow(columns)
                writer.writerows(rows)
            return str(path)
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
        elif path.suffix == ".json":
            path.write_text(json.dumps(records))
        elif path.suffix == ".parquet":
            with path.open("wb") as file:
                datasets.Dataset.from_list(records).to_parquet(file)
        else:
            raise AssertionError(path.suffix)
        return str(path)

    return write_rows


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """Write an image folder: `write_images("set", {"cat": 3, "dog": 2})`; returns its root."""

    def write_folder(
        name: str,
        classes: dict[str, int],
        *,
        mode: str = "RGB",
        size: tuple[int, int] = (8, 8),
        seed: int = 0,
    ) -> Path:
        generator = np.random.default_rng(seed)
        for label, count in classes.items():
            folder = tmp_path / name / label
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(count):
                shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
                pixels = generator.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
        return tmp_path / name

    return write_folder


WORDS = [
    "the",
    "a",
    "good",
    "bad",
    "film",
    "was",
    "very",
    "not",
    "plot",
    "acting",
    "great",
    "awful",
    "and",
    "or",
    "with",
]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    """A BERT tokenizer of a few words; other letters are single-letter pieces."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters]
    tokens += [f"##{letter}" for letter in letters]
    path = tmp_path_factory.mktemp("tokenizer") / "vocab.txt"
    path.write_text("\n".join(dict.fromkeys(tokens)))
    return BertTokenizerFast(str(path))
