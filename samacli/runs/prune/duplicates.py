"""Near-duplicates among the training rows."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from samacli.models import is_pretrained
from samacli.pruning.selection import near_duplicate_groups
from samacli.training.embed import pooled_embedding
from samacli.training.experiment import Experiment
from samacli.training.objective import Batch

_SIDE = 16  # pixels of the thumbnails that are compared


def duplicate_groups(experiment: Experiment) -> np.ndarray:
    """Group numbers (n,) of the training rows, see `near_duplicate_groups`.

    By the pretrained model's embeddings as it comes: trained on these rows, it would draw whole
    classes together. Without a pretrained model images are compared by their pixels.

    Raises:
        SamaError: a pretrained model gives no embeddings, or faiss is asked for and not there.
    """
    config = experiment.recipe.prune
    assert config.duplicates is not None
    output: Callable[[nn.Module, Batch], Tensor] = _thumbnails
    if is_pretrained(experiment.recipe.model):
        output = functools.partial(pooled_embedding, layer=-1)
    embeddings = experiment.predict(
        experiment.new_model(experiment.recipe.seed),
        experiment.train,
        "looking for near-duplicates",
        output=output,
    )
    return near_duplicate_groups(
        embeddings,
        config.duplicates,
        search=config.duplicate_search,
        device=experiment.accelerator.device,
    )


def copies(groups: np.ndarray, rows: np.ndarray) -> int:
    """How many of the `rows` are of a group that another of them is of."""
    return len(rows) - len(np.unique(groups[rows]))


def _thumbnails(model: nn.Module, batch: Batch) -> Tensor:
    """Pixels of images no larger than 16 × 16 (b, features), so that a cosine is a correlation."""
    images = batch["pixel_values"].float()
    side = min(_SIDE, *images.shape[-2:])
    pixels = adaptive_avg_pool2d(images, side).flatten(1)
    return pixels - pixels.mean(1, keepdim=True)
