"""Augmentation of whole image batches on the device, by kornia."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from samacli.training.objective import Batch

CUTOUT_AREA = 0.25  # of the image: a square of half the side (DeVries and Taylor 2017, CIFAR-10)


def make_augment(names: Sequence[str]) -> Callable[[Batch], Batch] | None:
    """What a recipe's `training.augment` does to a batch of the loop; None: nothing.

    crop: moved by up to an eighth of the shorter side, both ways. flip: mirrored or not. cutout: a
    quarter of the area blanked, somewhere within the image. All drawn for each image from torch's
    global random state. Images are normalised floats (n, channels, height, width), so that 0, which
    moves in or blanks, is the mean.

    `resized-crop` is not done here: it needs the image file's own pixels (`samacli.data`).
    """
    if not {"crop", "flip", "cutout"} & set(names):
        return None

    @functools.cache
    def pipeline(height: int, width: int) -> nn.Module:
        import kornia.augmentation as kornia  # slow to import, and text needs none of it

        layers: list[nn.Module] = []
        if "crop" in names:
            reach = max(min(height, width) // 8, 1)
            layers.append(kornia.RandomCrop((height, width), padding=reach, p=1.0))
        if "flip" in names:
            layers.append(kornia.RandomHorizontalFlip(p=0.5))
        if "cutout" in names:
            area = (CUTOUT_AREA, CUTOUT_AREA)
            layers.append(kornia.RandomErasing(scale=area, ratio=(1.0, 1.0), value=0.0, p=1.0))
        return nn.Sequential(*layers)

    def augment(batch: Batch) -> Batch:
        images: Tensor = batch["pixel_values"]
        return {**batch, "pixel_values": pipeline(*images.shape[-2:])(images)}

    return augment
