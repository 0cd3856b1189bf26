"""Datasets: read, checked, split, labelled and encoded.

`load_splits` turns the `data:` section of a recipe into `Splits` (memory-mapped rows, class ids,
plain facts and warnings); `encode` turns a `Split` into batches of model inputs; `make_loader`
feeds them in a reproducible order.
"""

from samacli.data.batches import Batches
from samacli.data.encode import Encoded, encode
from samacli.data.images import EncodedImages
from samacli.data.load import load_split, load_splits
from samacli.data.loader import BatchSampler, Cycle, Loader, cycle, decoding_workers, make_loader
from samacli.data.pixels import ImageStatistics
from samacli.data.split import Split, Splits
from samacli.data.text import EncodedText

__all__ = [
    "BatchSampler",
    "Batches",
    "Cycle",
    "Encoded",
    "EncodedImages",
    "EncodedText",
    "ImageStatistics",
    "Loader",
    "Split",
    "Splits",
    "cycle",
    "decoding_workers",
    "encode",
    "load_split",
    "load_splits",
    "make_loader",
]
