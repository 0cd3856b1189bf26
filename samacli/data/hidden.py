"""Texts as the hidden states that a model's frozen lower layers make of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class EncodedHidden:
    """A split's hidden states as padded batches; one item is one collated batch.

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
