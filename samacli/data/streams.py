"""One seed in the recipe, an independent stream for each use of it."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Stream = Literal["test", "meta", "imbalance", "subset", "noise", "test-subset"]


def stream_seed(seed: int, stream: Stream) -> int:
    """A seed for one use, so that turning one option on does not change what another draws."""
    number = get_args(Stream).index(stream)
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
