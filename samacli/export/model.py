"""A trained model as `from_pretrained` and `pipeline` read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from samacli.models.frozen_layers import put_back


def save_model(model: PreTrainedModel, processor: Any, directory: Path) -> None:
    """Write weights (safetensors), config, and the tokenizer or image processor."""
    put_back(model)  # what was computed once for all texts is part of the model again
    transformers_logging.disable_progress_bar()
    try:
        model.save_pretrained(directory)
        processor.save_pretrained(directory)
    finally:
        transformers_logging.enable_progress_bar()
