"""Text as model inputs, padded batch by batch: tokens (cached, memory-mapped) or hidden states."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from samacli.data.table import cache_root, quiet_datasets
from samacli.errors import SamaError
from samacli.progress import Progress, Silent

PAD_MULTIPLE = 8
_MAP_ROWS = 1000
_VERSION = "1"  # part of the cache key; raise it when the tokens' layout changes


class EncodedText:
    """A split's tokens as padded batches; map-style for torch, one item is one collated batch."""

    def __init__(self, tokens: datasets.Dataset, labels: np.ndarray, tokenizer: Any) -> None:
        """tokens: what `tokenize` made (input_ids, perhaps token_type_ids, truncated).

        labels: int64 (n,). Raises SamaError for a tokenizer that has no padding token.
        """
        if tokenizer.pad_token_id is None:
            raise SamaError(
                f"{_name(tokenizer)} has no padding token; choose a model for "
                "classification, or set one in its tokenizer configuration"
            )
        self._tokens = tokens
        self._ragged: dict[str, _Ragged] | None = None
        self._padding = {
            "input_ids": int(tokenizer.pad_token_id),
            "token_type_ids": int(tokenizer.pad_token_type_id),
        }
        # Rounding up must not go beyond the positions that the model has.
        self._widest = int(tokenizer.model_max_length)
        self._left = tokenizer.padding_side == "left"
        self._with_mask = "attention_mask" in tokenizer.model_input_names
        self.labels = labels
        self.lengths: np.ndarray = self._columns()["input_ids"].lengths
        flags = tokens.select_columns(["truncated"]).with_format("arrow")[:]["truncated"]
        self.truncated = int(flags.to_numpy().sum())

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Model inputs int64 (n, longest, rounded up to 8), `labels` (n,), `index` (n,)."""
        wanted = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[wanted]
        width = -(-int(lengths.max(initial=1)) // PAD_MULTIPLE) * PAD_MULTIPLE
        width = min(width, self._widest)
        batch = {
            name: torch.from_numpy(
                column.padded(wanted, width, self._padding[name], left=self._left)
            )
            for name, column in self._columns().items()
        }
        if self._with_mask:
            real = np.arange(width) < lengths[:, None]
            mask = real[:, ::-1].copy() if self._left else real
            batch["attention_mask"] = torch.from_numpy(mask.astype(np.int64))
        batch["labels"] = torch.from_numpy(self.labels[wanted])
        batch["index"] = torch.from_numpy(wanted)
        return batch

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in self.__getitems__([row]).items()}

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the file again; views of this process's map cannot travel.
        return {**self.__dict__, "_ragged": None}

    def _columns(self) -> dict[str, _Ragged]:
        if self._ragged is None:
            names = [name for name in self._tokens.column_names if name in self._padding]
            table = self._tokens.with_format("arrow")[:]
            self._ragged = {name: _Ragged(table[name]) for name in names}
        return self._ragged


class EncodedHidden:
    """Texts as the hidden states that a model's frozen lower layers make of them, padded batches.

    Offers what EncodedText offers, with `inputs_embeds` in place of token numbers.
    """

    def __init__(
        self, states: np.ndarray, lengths: np.ndarray, labels: np.ndarray, truncated: int
    ) -> None:
        """states: float32 (tokens of all rows, width), row after row; lengths, labels: int (n,)."""
        self.states = states
        self.lengths = lengths
        self.labels = labels
        self.truncated = truncated
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """`inputs_embeds` (n, longest, width), `attention_mask`, `labels` and `index` (n,)."""
        wanted = np.asarray(rows, dtype=np.int64)
        lengths = self.lengths[wanted]
        longest = int(lengths.max(initial=1))
        padded = np.zeros((len(wanted), longest, self.states.shape[1]), dtype=np.float32)
        for line, row, length in zip(padded, wanted, lengths, strict=True):
            line[:length] = self.states[self._ends[row] - length : self._ends[row]]
        mask = np.arange(longest) < lengths[:, None]
        return {
            "inputs_embeds": torch.from_numpy(padded),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
            "labels": torch.from_numpy(self.labels[wanted]),
            "index": torch.from_numpy(wanted),
        }

    def followed_by(self, other: EncodedHidden) -> EncodedHidden:
        """The rows of this one, then those of `other`."""
        return EncodedHidden(
            np.concatenate([self.states, other.states]),
            np.concatenate([self.lengths, other.lengths]),
            np.concatenate([self.labels, other.labels]),
            self.truncated + other.truncated,
        )


class _Ragged:
    """A list<int32> column as numpy views of its chunks: nothing is copied out of the map."""

    def __init__(self, column: Any) -> None:
        self._values: list[np.ndarray] = []
        self._offsets: list[np.ndarray] = []
        for chunk in column.chunks:
            self._values.append(chunk.values.to_numpy())
            self._offsets.append(chunk.offsets.to_numpy())
        sizes = [len(offsets) - 1 for offsets in self._offsets]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        lengths = [np.diff(offsets) for offsets in self._offsets]
        self.lengths = np.concatenate([np.empty(0, np.int32), *lengths]).astype(np.int64)

    def padded(self, rows: np.ndarray, width: int, value: int, *, left: bool) -> np.ndarray:
        """int64 (len(rows), width), each row's values and `value` where there are none."""
        out = np.full((len(rows), width), value, dtype=np.int64)
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        for line, row, chunk in zip(out, rows, chunks, strict=True):
            offsets = self._offsets[chunk]
            place = row - self._starts[chunk]
            tokens = self._values[chunk][offsets[place] : offsets[place + 1]]
            if left:
                line[width - len(tokens) :] = tokens
            else:
                line[: len(tokens)] = tokens
        return out


def tokenize(
    rows: datasets.Dataset,
    columns: Sequence[str],
    tokenizer: Any,
    max_length: int,
    *,
    content: np.ndarray,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    description: str = "tokenising",
) -> datasets.Dataset:
    """Tokens of every row: `input_ids`, `token_type_ids` if the tokenizer makes them, `truncated`.

    columns: one text column, or two for pairs. content: uint64 (n,), a hash of each row's text;
    with tokenizer and length it names the cache file, so that a second run, in this process or
    another, reads it instead of tokenising again. Memory-mapped. Raises SamaError when the
    tokenizer's model takes fewer tokens than `max_length`.
    """
    max_length = longest(tokenizer, max_length)
    # Tokenizers that know no limit carry a number beyond all texts.
    if max_length > tokenizer.model_max_length:
        raise SamaError(
            f"data.max_length is {max_length}, but {_name(tokenizer)} takes at most "
            f"{tokenizer.model_max_length} tokens; lower it"
        )
    key = _cache_key(content, tokenizer, max_length)
    target = (cache_dir or cache_root()) / f"tokens-{key}.arrow"
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        cached = _reopen(target)
        if cached is not None and len(cached) == len(rows):
            return cached
    partial = target.with_suffix(f".{os.getpid()}.partial")
    list_of_ids = datasets.List(datasets.Value("int32"))
    features = {"input_ids": list_of_ids}
    if "token_type_ids" in tokenizer.model_input_names:
        features["token_type_ids"] = list_of_ids
    features["truncated"] = datasets.Value("bool")

    try:
        with quiet_datasets(), (progress or Silent()).task(description, len(rows)) as bar:

            def encode_batch(batch: dict[str, list[str]]) -> dict[str, Any]:
                texts = [batch[column] for column in columns]
                encoded = _encode_batch(texts, tokenizer, max_length, list(features))
                bar.advance(len(texts[0]))
                return encoded

            rows.select_columns(list(columns)).map(
                encode_batch,
                batched=True,
                batch_size=_MAP_ROWS,
                remove_columns=list(columns),
                features=datasets.Features(features),
                cache_file_name=str(partial),
                load_from_cache_file=False,
                new_fingerprint=key,
            )
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return datasets.Dataset.from_file(str(target))


def longest(tokenizer: Any, max_length: int) -> int:
    """Tokens of a text at most: `max_length`, or what the model has positions for where that is
    less and its tokenizer did not say so (`samacli.models.load_processor`)."""
    if getattr(tokenizer, "cut_there", False):
        return min(max_length, int(tokenizer.model_max_length))
    return max_length


def _name(tokenizer: Any) -> str:
    return f"the tokenizer {tokenizer.name_or_path or type(tokenizer).__name__}"


def _reopen(path: Path) -> datasets.Dataset | None:
    """A cached file; None if it cannot be read (cut short by a full disk, say)."""
    try:
        return datasets.Dataset.from_file(str(path))
    except (OSError, pa.ArrowException):
        return None


def _encode_batch(
    texts: list[list[str]], tokenizer: Any, max_length: int, names: list[str]
) -> dict[str, Any]:
    encoded = tokenizer(
        *texts, truncation=True, max_length=max_length, return_attention_mask=False, verbose=False
    )
    ids = encoded["input_ids"]
    if tokenizer.is_fast:
        truncated = [bool(encoding.overflowing) for encoding in encoded.encodings]
    else:
        # Only a row that fills the length can have been cut.
        truncated = [len(row) >= max_length for row in ids]
        full = [i for i, cut in enumerate(truncated) if cut]
        if full:
            whole = tokenizer(*[[column[i] for i in full] for column in texts], verbose=False)
            for i, row in zip(full, whole["input_ids"], strict=True):
                truncated[i] = len(row) > max_length
    out = {name: encoded[name] for name in names if name in encoded}
    return {**out, "truncated": truncated}


def _cache_key(content: np.ndarray, tokenizer: Any, max_length: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in (_VERSION, datasets.__version__, _tokenizer_identity(tokenizer), str(max_length)):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    digest.update(np.ascontiguousarray(content).tobytes())
    return digest.hexdigest()


def _tokenizer_identity(tokenizer: Any) -> str:
    """Everything that decides what the tokenizer makes of a text, as text."""
    settings = [
        type(tokenizer).__name__,
        tokenizer.padding_side,
        tokenizer.truncation_side,
        *sorted(tokenizer.model_input_names),
        repr(sorted((key, str(value)) for key, value in tokenizer.special_tokens_map.items())),
    ]
    if tokenizer.is_fast:
        # A call leaves its truncation behind in the backend; that is not what it *is*.
        backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
        backend.no_truncation()
        backend.no_padding()
        settings.append(backend.to_str())
    else:
        settings += [repr(sorted(tokenizer.get_vocab().items())), repr(tokenizer.init_kwargs)]
    return "\n".join(settings)
