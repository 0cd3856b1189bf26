"""What a model's frozen lower layers make of each text, computed once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from samacli.data import Encoded, EncodedText, make_loader
from samacli.data.text import EncodedHidden
from samacli.errors import SamaError
from samacli.models.frozen_layers import frozen_depth, keep_lower
from samacli.progress import Progress, Silent
from samacli.recipe import Recipe
from samacli.training.objective import model_inputs


def states_of_frozen_layers(
    model: PreTrainedModel,
    splits: Mapping[str, Encoded | None],
    recipe: Recipe,
    accelerator: Accelerator,
    progress: Progress,
) -> tuple[int, dict[str, EncodedHidden]]:
    """How many layers from below are passed, and their states of each text split, by its name.

    (0, {}) where they would take more memory than `data.memory_limit_mb`. Uses up `model`.

    Raises:
        SamaError: the model has no frozen lower layers, or the splits are no texts.
    """
    depth = frozen_depth(model)
    texts = {name: split for name, split in splits.items() if isinstance(split, EncodedText)}
    if depth == 0 or not texts:
        raise SamaError(
            f"model.cache_frozen: the model {recipe.model.name} has no frozen lower "
            "layers whose output could be kept; freeze its embeddings and lower layers "
            "(model.freeze), or set model.cache_frozen=false"
        )
    size = sum(bytes_of_states(text, model) for text in texts.values())
    limit = recipe.data.memory_limit_mb
    if size > limit << 20:
        progress.note(
            f"the frozen layers' states would take {size >> 20:,} MB, above "
            f"data.memory_limit_mb={limit}; they are computed at every step instead"
        )
        return 0, {}
    keep_lower(model, depth)
    return depth, {
        name: hidden_states(
            model,
            text,
            accelerator,
            batch_size=recipe.training.eval_batch_size,
            progress=progress,
            description=f"the {name} split's pass through {depth} frozen layers",
        )
        for name, text in texts.items()
    }


def bytes_of_states(encoded: EncodedText, model: PreTrainedModel) -> int:
    """Memory of the hidden states of all rows, in bytes."""
    return int(encoded.lengths.sum()) * int(model.config.hidden_size) * 4


@torch.no_grad()
def hidden_states(
    model: PreTrainedModel,
    encoded: EncodedText,
    accelerator: Accelerator,
    *,
    batch_size: int,
    progress: Progress | None = None,
    description: str = "passing the frozen layers",
) -> EncodedHidden:
    """The last states that `model` gives of each row, without dropout.

    model: the lower layers alone (`samacli.models.frozen_layers.keep_lower`).
    Every process computes all rows: they are read at random afterwards.
    """
    model.eval()
    lengths = np.asarray(encoded.lengths)
    ends = np.cumsum(lengths)
    states = np.empty((int(lengths.sum()), int(model.config.hidden_size)), dtype=np.float32)
    loader = make_loader(encoded, batch_size, shuffle=False, seed=0)
    with (progress or Silent()).task(description, len(encoded)) as task:
        for batch in loader:
            inputs = {
                name: value.to(accelerator.device) for name, value in model_inputs(batch).items()
            }
            with accelerator.autocast():
                output = model.base_model(**inputs)
            found = output.last_hidden_state.float().cpu().numpy()
            real = inputs["attention_mask"].bool().cpu().numpy()
            for row, values, mask in zip(batch["index"].tolist(), found, real, strict=True):
                states[ends[row] - lengths[row] : ends[row]] = values[mask]
            task.advance(len(batch["index"]))
    return EncodedHidden(states, lengths, encoded.labels, encoded.truncated)
