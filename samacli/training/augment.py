"""Augmentation of whole image batches on the device: one gather or mask for all images of it.

Images are normalised floats (n, channels, height, width), so that 0 is the mean. What happens to
each image is drawn from torch's global random state of their device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from samacli.training.objective import Batch


def make_augment(names: Sequence[str]) -> Callable[[Batch], Batch] | None:
    """What a recipe's `training.augment` does to a batch of the loop; None: nothing.

    `resized-crop` is not done here: it needs the image file's own pixels (`samacli.data`).
    """
    steps = [step for name, step in _STEPS.items() if name in names]
    if not steps:
        return None

    def augment(batch: Batch) -> Batch:
        images = batch["pixel_values"]
        for step in steps:
            images = step(images)
        return {**batch, "pixel_values": images}

    return augment


def random_crop(images: Tensor) -> Tensor:
    """Each image moved by up to an eighth of its shorter side, both ways; 0 moves in."""
    n, _, height, width = images.shape
    reach = max(min(height, width) // 8, 1)
    padded = torch.nn.functional.pad(images, (reach, reach, reach, reach))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (n, c, y, x, height, width), views
    y, x = torch.randint(0, 2 * reach + 1, (2, n), device=images.device)
    return windows[torch.arange(n, device=images.device), :, y, x]


def random_flip(images: Tensor) -> Tensor:
    """Each image mirrored left to right, or not."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


def cutout(images: Tensor) -> Tensor:
    """0 in a square of half the shorter side, whose centre is anywhere in the image.

    As DeVries and Taylor 2017 do for CIFAR-10: what sticks out of the image is lost.
    """
    n, _, height, width = images.shape
    side = max(min(height, width) // 2, 1)

    def covered(length: int) -> Tensor:
        """bool (n, length): which rows, or columns, the square covers."""
        first = torch.randint(0, length, (n, 1), device=images.device) - side // 2
        place = torch.arange(length, device=images.device)
        return (place >= first) & (place < first + side)

    square = covered(height)[:, None, :, None] & covered(width)[:, None, None, :]
    return images.masked_fill(square, 0.0)


# In the order in which they are done.
_STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "crop": random_crop,
    "flip": random_flip,
    "cutout": cutout,
}
