"""What many tests share: a tiny BERT with its tokenizer, and small labelled texts."""

from __future__ import annotations

import csv
import os
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from samacli.recipe import Recipe

# How long an example takes says nothing about whether the answer is right.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

os.environ["HF_HUB_OFFLINE"] = "1"  # the hub is out of reach here; fail at once instead of retrying
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

WORDS = {
    "sport": ["ball", "goal", "team", "match", "score", "player"],
    "money": ["bank", "stock", "trade", "price", "market", "shares"],
    "film": ["actor", "scene", "movie", "camera", "director", "stage"],
}
FILLER = ["the", "a", "of", "and", "in", "day", "new", "said", "was", "for"]


def write_csv(
    path: Path, rows: Sequence[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")
) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def sentences(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts whose class shows in half of their words, and that class."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        label = str(generator.choice(list(WORDS)))
        words = [*generator.choice(WORDS[label], 3), *generator.choice(FILLER, 3)]
        rows.append((" ".join(map(str, generator.permutation(words))), label))
    return rows


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-layer BERT from a config, with a WordPiece tokenizer of WORDS and letters."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, set_seed

    folder = tmp_path_factory.mktemp("tiny-bert")
    # Not trained: ties in the trainer fall differently from process to process, and with the token
    # numbers the initial model would be another one in each test run.
    letters = string.ascii_lowercase
    words = {*FILLER, *(word for group in WORDS.values() for word in group)}
    pieces = [*letters, *(f"##{letter}" for letter in letters), *sorted(words - set(letters))]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {piece: i for i, piece in enumerate([*special, *pieces])}
    backend = BertWordPieceTokenizer(vocab=vocabulary, lowercase=True)
    backend.save(str(folder / "tokenizer.json"))
    tokenizer = BertTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.save_pretrained(folder)
    set_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def make_texts(folder: Path) -> dict[str, Path]:
    """noisy.csv (100 of 400 labels wrong, truth beside them), clean.csv and test.csv."""
    names = list(WORDS)
    noisy = []
    for i, (text, label) in enumerate(sentences(400, seed=0)):
        wrong = names[(names.index(label) + 1) % 3]
        noisy.append((text, wrong if i % 4 == 0 else label, label))
    write_csv(folder / "noisy.csv", noisy, ("text", "label", "truth"))
    write_csv(folder / "clean.csv", sentences(60, seed=1))
    write_csv(folder / "test.csv", sentences(90, seed=2))
    return {name: folder / f"{name}.csv" for name in ("noisy", "clean", "test")}


def text_recipe(texts: dict[str, Path], model: Path, *overrides: str) -> Recipe:
    """Training on `make_texts` at settings that a tiny model learns by."""
    from samacli.recipe import load_recipe  # after the environment above is set

    return load_recipe(
        None,
        [
            "training.epochs=3",
            "training.batch_size=16",
            "training.optimizer.learning_rate=3e-3",
            "training.precision=fp32",
            "data.columns.true_label=truth",
            *overrides,
        ],
        {
            "data.train": str(texts["noisy"]),
            "data.meta": str(texts["clean"]),
            "data.test": str(texts["test"]),
            "model.name": str(model),
        },
    )


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, Path]:
    """Small labelled texts, see `make_texts`."""
    return make_texts(tmp_path)


@pytest.fixture
def run_sama(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: (exit code, stdout, stderr)."""
    from samacli.__main__ import main

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = exit_.value.code
        return (0 if code is None else int(code)), captured.out, captured.err

    return run
