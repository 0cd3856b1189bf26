"""Augmentation of whole image batches on the device, by kornia."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from samacli.training.objective import Batch


def make_augment(names: Sequence[str], size: tuple[int, int]) -> Callable[[Batch], Batch] | None:
    """Random crop (padding of an eighth of the side) and mirroring, drawn for each image.

    size: (height, width) in pixels.

    Images are normalised floats (n, channels, height, width), so that
    padding with 0 pads with the mean.
    """
    if not names:
        return None
    import kornia.augmentation as kornia  # slow to import, and text needs none of it

    layers: list[nn.Module] = []
    if "crop" in names:
        layers.append(kornia.RandomCrop(size, padding=max(min(size) // 8, 1), p=1.0))
    if "flip" in names:
        layers.append(kornia.RandomHorizontalFlip(p=0.5))
    pipeline = nn.Sequential(*layers)

    def augment(batch: Batch) -> Batch:
        return {**batch, "pixel_values": pipeline(batch["pixel_values"])}

    return augment
