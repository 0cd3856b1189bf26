"""The transformers processor that treats an image as the training images were treated."""

from __future__ import annotations

from typing import Any

from transformers import CLIPImageProcessorPil, ViTImageProcessorPil

from samacli.data import ImageStatistics


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
