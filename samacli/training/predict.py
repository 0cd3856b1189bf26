"""Predictions of a trained model over a whole split."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from samacli.progress import Progress, Silent
from samacli.training.memory import free_memory, in_parts, is_out_of_memory
from samacli.training.objective import Batch, model_logits, to_device

ROWS_A_MESSAGE = 1 << 16


@torch.no_grad()
def predict(
    model: nn.Module,
    batches: Iterable[Batch],
    rows: int,
    accelerator: Accelerator,
    *,
    output: Callable[[nn.Module, Batch], Tensor] = model_logits,
    progress: Progress | None = None,
    description: str = "predicting",
) -> np.ndarray:
    """Logits (rows, classes) float32 in the split's order, whatever the order of the batches.

    Rows that no batch has stay 0. Several processes share the batches among them, and all get the
    whole. `output` may give something else than logits, (n, any) for a batch of n. A batch that
    the memory does not suffice for is taken in parts.
    """
    model.eval()
    device = accelerator.device
    logits: np.ndarray | None = None
    parts = 1
    with (progress or Silent()).task(description, rows) as task:
        for number, batch in enumerate(batches):
            task.advance(len(batch["index"]))
            # everybody takes the first, which tells the number of classes
            own = number % accelerator.num_processes == accelerator.process_index
            if number > 0 and not own:
                continue
            moved = to_device(batch, device)
            with accelerator.autocast():
                found, parts = _outputs(output, model, moved, parts)
            if logits is None:
                logits = np.zeros((rows, found.shape[1]), dtype=np.float32)
            if own:
                logits[batch["index"].numpy()] = found
    if logits is None:
        raise ValueError("no batches to predict on")
    if accelerator.num_processes > 1:
        for first in range(0, rows, ROWS_A_MESSAGE):
            part = torch.from_numpy(logits[first : first + ROWS_A_MESSAGE])
            logits[first : first + ROWS_A_MESSAGE] = accelerator.reduce(part.to(device)).cpu()
    return logits


def _outputs(
    output: Callable[[nn.Module, Batch], Tensor], model: nn.Module, batch: Batch, parts: int
) -> tuple[np.ndarray, int]:
    """Of a batch taken in `parts`, or in more, if it takes them: then so many come back."""
    every = torch.ones(len(batch["index"]), dtype=torch.bool)
    while True:
        try:
            found = [output(model, part).cpu().numpy() for part, _ in in_parts(batch, parts, every)]
            return np.concatenate(found), parts
        except RuntimeError as error:
            if not is_out_of_memory(error) or parts >= len(every):
                raise
        parts *= 2
        free_memory(batch["index"].device)
