"""Random-resized crops: a part of an image file, brought to the size that the model takes."""

from __future__ import annotations

import math

import numpy as np

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


def random_box(width: int, height: int, generator: np.random.Generator) -> Box:
    """A box of 8 to 100 % of the area, its sides' ratio between 3:4 and 4:3, anywhere.

    The area is drawn evenly, the ratio evenly in its logarithm, ten times at most until the box
    fits; then the largest box of a possible ratio in the middle (Szegedy et al. 2015, as
    torchvision's RandomResizedCrop does it).
    """
    for _ in range(_TRIES):
        area = width * height * generator.uniform(*_AREA)
        ratio = math.exp(generator.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left = int(generator.integers(0, width - wide + 1))
            top = int(generator.integers(0, height - high + 1))
            return left, top, left + wide, top + high
    wide = min(width, round(height * _RATIO[1]))
    high = min(height, round(width / _RATIO[0]))
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high
