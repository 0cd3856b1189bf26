"""Augmentation of whole image batches, drawn and done on the device that they are on.

Written out, since kornia draws its parameters on the host: seven copies a batch, for each of which
a GPU is waited for, and 280 small operations in place of 40.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

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
    kinds = {"crop": crop, "flip": flip, "cutout": cutout}
    chosen = [change for name, change in kinds.items() if name in names]
    if not chosen:
        return None

    def augment(batch: Batch) -> Batch:
        images: Tensor = batch["pixel_values"]
        for change in chosen:
            images = change(images)
        return {**batch, "pixel_values": images}

    return augment


def crop(images: Tensor) -> Tensor:
    """Windows of the padded images, as large as these."""
    count, _, height, width = images.shape
    reach = max(min(height, width) // 8, 1)
    padded = F.pad(images, (reach,) * 4)
    rows = _places(2 * reach + 1, height, images)[:, :, None]
    columns = _places(2 * reach + 1, width, images)[:, None, :]
    which = torch.arange(count, device=images.device)[:, None, None]
    # Indexed like this channels come last, as convolutions like them.
    return padded[which, :, rows, columns].permute(0, 3, 1, 2)


def flip(images: Tensor) -> Tensor:
    """Each mirrored or not."""
    mirrored = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def cutout(images: Tensor) -> Tensor:
    """A square of `CUTOUT_AREA` within each set to 0."""
    height, width = images.shape[-2:]
    side = round((CUTOUT_AREA * height * width) ** 0.5)
    rows = _within(min(side, height), height, images)[:, :, None]
    columns = _within(min(side, width), width, images)[:, None, :]
    return images.masked_fill((rows & columns)[:, None], 0.0)


def _places(starts: int, length: int, images: Tensor) -> Tensor:
    """`length` places in a row (n, length), from one of so many starts on."""
    first = torch.randint(starts, (len(images), 1), device=images.device)
    return first + torch.arange(length, device=images.device)


def _within(size: int, length: int, images: Tensor) -> Tensor:
    """bool (n, length): True at `size` places in a row, somewhere."""
    first = torch.randint(length - size + 1, (len(images), 1), device=images.device)
    after = torch.arange(length, device=images.device) - first
    return (after >= 0) & (after < size)
