"""Predictions of a trained model over a whole split."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from samacli.progress import Progress, Silent
from samacli.training.objective import Batch, model_logits


@torch.no_grad()
def predict(
    model: nn.Module,
    batches: Iterable[Batch],
    rows: int,
    accelerator: Accelerator,
    *,
    progress: Progress | None = None,
    description: str = "predicting",
) -> np.ndarray:
    """Logits (rows, classes) float32 in the split's order, whatever the order of the batches."""
    model.eval()
    device = accelerator.device
    logits: np.ndarray | None = None
    with (progress or Silent()).task(description, rows) as task:
        for batch in batches:
            index = batch["index"].numpy()
            moved = {name: value.to(device) for name, value in batch.items()}
            with accelerator.autocast():
                output = model_logits(model, moved).cpu().numpy()
            if logits is None:
                logits = np.empty((rows, output.shape[1]), dtype=np.float32)
            logits[index] = output
            task.advance(len(index))
    if logits is None:
        raise ValueError("no batches to predict on")
    return logits
