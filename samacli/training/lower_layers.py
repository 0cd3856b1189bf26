"""What a model's frozen lower layers make of each text, computed once."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from samacli.data import EncodedText, make_loader
from samacli.data.text import EncodedHidden
from samacli.progress import Progress, Silent
from samacli.training.objective import model_inputs


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
