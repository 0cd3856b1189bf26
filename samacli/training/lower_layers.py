"""What a model's frozen lower layers make of each text, computed once."""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from samacli.data import EncodedText, make_loader
from samacli.data.hidden import EncodedHidden
from samacli.progress import Progress, Silent
from samacli.training.objective import NOT_INPUTS


def bytes_of_states(encoded: EncodedText, model: PreTrainedModel) -> int:
    """Memory of the hidden states of all rows, in bytes."""
    return int(encoded.lengths.sum()) * int(model.config.hidden_size) * 4


@torch.no_grad()
def hidden_states(
    model: PreTrainedModel,
    depth: int,
    encoded: EncodedText,
    accelerator: Accelerator,
    *,
    batch_size: int,
    progress: Progress | None = None,
    description: str = "passing the frozen layers",
) -> EncodedHidden:
    """The states that layer `depth` (counted from 1) gives of each row, without dropout.

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
                name: value.to(accelerator.device)
                for name, value in batch.items()
                if name not in NOT_INPUTS
            }
            with accelerator.autocast():
                output = model.base_model(**inputs, output_hidden_states=True)
            found = output.hidden_states[depth].float().cpu().numpy()
            real = inputs["attention_mask"].bool().cpu().numpy()
            for row, values, mask in zip(batch["index"].tolist(), found, real, strict=True):
                states[ends[row] - lengths[row] : ends[row]] = values[mask]
            task.advance(len(batch["index"]))
    return EncodedHidden(states, lengths, encoded.labels, encoded.truncated)
