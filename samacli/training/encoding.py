"""Splits as the model takes them: all encoded alike, and parts of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from samacli.data import Encoded, EncodedImages, Split, Splits, encode
from samacli.progress import Progress
from samacli.recipe import Recipe
from samacli.training.objective import Batch
from samacli.training.runtime import fits_on


class Encoder:
    """Encodes splits alike: the first image split's statistics serve the others.

    Held images are put on `device` as the recipe says.
    """

    def __init__(
        self,
        recipe: Recipe,
        splits: Splits,
        processor: Any,
        progress: Progress,
        device: torch.device,
    ) -> None:
        self.recipe, self.splits, self.processor = recipe, splits, processor
        self.progress, self.device = progress, device
        self.first: Encoded | None = None

    def __call__(self, split: Split, like: Encoded | None = None) -> Encoded:
        like = like or self.first
        is_text = self.recipe.task == "text-classification"
        # A model from scratch has no pixels of its own to conform to, unless the recipe says so.
        conform = not self.recipe.model.from_config or self.recipe.data.normalize == "model"
        encoded = encode(
            split,
            self.splits.columns,
            self.recipe.task,
            processor=self.processor if is_text or conform else None,
            config=self.recipe.data,
            statistics=like.statistics if isinstance(like, EncodedImages) else None,
            # Random-resized crops are taken from the whole image file.
            hold="resized-crop" not in self.recipe.training.augment,
            progress=self.progress,
        )
        if isinstance(encoded, EncodedImages) and fits_on(self.device, encoded.held_bytes):
            encoded.keep_on(self.device)
        self.first = self.first or encoded
        return encoded


class Subset(torch.utils.data.Dataset):
    """Some rows of an encoded split; batches keep the row numbers of the whole in `index`."""

    def __init__(self, encoded: Encoded, rows: np.ndarray) -> None:
        self.encoded, self.rows = encoded, rows
        self.lengths = None if encoded.lengths is None else encoded.lengths[rows]
        self.labels = encoded.labels[rows]
        if isinstance(encoded, EncodedImages):
            self.finish, self.set_epoch = encoded.finish, encoded.set_epoch

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, rows: Sequence[int]) -> Batch:
        return self.encoded.__getitems__(self.rows[np.asarray(rows)].tolist())

    def randomly_cropped(self, seed: int) -> Subset:
        """The same rows of an image split, cropped at random; see EncodedImages."""
        assert isinstance(self.encoded, EncodedImages)
        return Subset(self.encoded.randomly_cropped(seed), self.rows)
