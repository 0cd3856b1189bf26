"""A trained model as `from_pretrained` and `pipeline` read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import CLIPImageProcessorPil, PreTrainedModel, ViTImageProcessorPil
from transformers.utils import logging as transformers_logging

from samacli.data import ImageStatistics
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


def image_processor(
    statistics: ImageStatistics,
) -> ViTImageProcessorPil | CLIPImageProcessorPil:
    """A processor that resizes, cuts and normalises as the data were for evaluation."""
    height, width = statistics.size
    size = {"height": height, "width": width}
    common: dict[str, Any] = {
        "resample": statistics.resample,
        "image_mean": list(statistics.mean),
        "image_std": list(statistics.std),
        "do_rescale": True,
    }
    if statistics.shortest_edge is None:
        return ViTImageProcessorPil(size=size, **common)
    return CLIPImageProcessorPil(
        size={"shortest_edge": statistics.shortest_edge},
        crop_size=size,
        do_convert_rgb=statistics.channels == 3,
        **common,
    )
