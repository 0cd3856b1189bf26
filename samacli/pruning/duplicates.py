"""Near-duplicates among the training rows, found by their embeddings."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from samacli.errors import SamaError
from samacli.models import is_pretrained
from samacli.training.embed import pooled_embedding
from samacli.training.experiment import Experiment
from samacli.training.objective import Batch

Search = Literal["exact", "faiss"]
Pairs = Iterator[tuple[np.ndarray, np.ndarray]]

BLOCK = 2048
# Two copies of one vector may be a rounding error of float32 short of cosine 1.
ROUNDING = 1e-6
_PAIRS_AT_ONCE = 1 << 20
_SIDE = 16  # pixels of the thumbnails that are compared
_CELLS_SEARCHED = 16
_ROWS_A_CELL = 39  # the fewest training points a centroid that faiss trains without a complaint


def duplicate_groups(experiment: Experiment) -> np.ndarray:
    """Group numbers (n,) of the training rows, see `near_duplicate_groups`.

    By the pretrained model's embeddings as it comes: trained on these rows, it would draw whole
    classes together. Without a pretrained model images are compared by their pixels.

    Raises:
        SamaError: a pretrained model gives no embeddings, or faiss is asked for and not there.
    """
    config = experiment.recipe.prune
    assert config.duplicates is not None
    output: Callable[[nn.Module, Batch], Tensor] = _thumbnails
    if is_pretrained(experiment.recipe.model):
        output = functools.partial(pooled_embedding, layer=-1)
    embeddings = experiment.predict(
        experiment.new_model(experiment.recipe.seed),
        experiment.train,
        "looking for near-duplicates",
        output=output,
    )
    return near_duplicate_groups(
        embeddings,
        config.duplicates,
        search=config.duplicate_search,
        device=experiment.accelerator.device,
    )


def copies(groups: np.ndarray, rows: np.ndarray) -> int:
    """How many of the `rows` are of a group that another of them is of."""
    return len(rows) - len(np.unique(groups[rows]))


def _thumbnails(model: nn.Module, batch: Batch) -> Tensor:
    """Pixels of images no larger than 16 × 16 (b, features), so that a cosine is a correlation."""
    images = batch["pixel_values"].float()
    side = min(_SIDE, *images.shape[-2:])
    pixels = adaptive_avg_pool2d(images, side).flatten(1)
    return pixels - pixels.mean(1, keepdim=True)


def near_duplicate_groups(
    embeddings: np.ndarray,
    threshold: float = 0.95,
    *,
    search: Search = "exact",
    block: int = BLOCK,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Group numbers, int64 (n,): one for rows that chains of near-duplicates join.

    Two rows are near-duplicates if the cosine of their embeddings (n, d) is `threshold` or more.
    Groups are numbered by their first row, in order; a row of its own is a group of its own, and so
    is a vector of zeros, which has no direction.

    "exact" compares all pairs, block × block of them in memory at a time, on `device`. "faiss" (the
    extra `faiss`, on the CPU) looks for a row's neighbours in the 16 nearest of √n cells, so its
    work grows with n√n and not with n²; it may miss a pair whose rows lie in cells far apart. Of
    60,000 synthetic rows with 64 features it missed none of 21,170 pairs, in half the time.

    Raises:
        SamaError: the threshold is not in (0, 1], an embedding is not finite, or faiss is not
            installed.
    """
    if not 0 < threshold <= 1:
        raise SamaError(
            f"the cosine of near-duplicates must be above 0 and up to 1, not {threshold:g}"
        )
    unit = _unit(embeddings)
    find = _FINDERS[search]
    return _groups(len(unit), find(unit, threshold - ROUNDING, block, torch.device(device)))


def _unit(embeddings: np.ndarray) -> np.ndarray:
    """float32 (n, d), each row of length 1, or 0 where it was."""
    unit = np.ascontiguousarray(embeddings, dtype=np.float32)
    broken = np.flatnonzero(~np.isfinite(unit).all(1))
    if broken.size:
        raise SamaError(
            f"the embedding of row {broken[0]} (counted from 0) is not finite; {broken.size:,} of "
            f"{len(unit):,} are not, so near-duplicates cannot be told"
        )
    lengths = np.linalg.norm(unit, axis=1, keepdims=True)
    return unit / np.where(lengths == 0, 1, lengths)


@torch.no_grad()
def _exact_pairs(unit: np.ndarray, least: float, block: int, device: torch.device) -> Pairs:
    """Pairs of rows with a cosine of `least` or more, each pair once."""
    rows = torch.from_numpy(unit)
    for top in range(0, len(rows), block):
        upper = rows[top : top + block].to(device)
        for left in range(top, len(rows), block):
            cosines = upper @ rows[left : left + block].to(device).T
            if left == top:
                cosines = cosines.triu(1)  # 0 on and below the diagonal, less than any threshold
            first, second = (cosines >= least).nonzero(as_tuple=True)
            yield first.cpu().numpy() + top, second.cpu().numpy() + left


def _faiss_pairs(unit: np.ndarray, least: float, block: int, device: torch.device) -> Pairs:
    """As `_exact_pairs`, through an inverted file of faiss."""
    if importlib.util.find_spec("faiss") is None:
        raise SamaError(
            "near-duplicates are to be found with faiss, which is not installed; run pip install "
            "'samacli[faiss]', or search exactly"
        )
    import faiss

    width = unit.shape[1]
    cells = max(1, min(int(len(unit) ** 0.5), len(unit) // _ROWS_A_CELL))
    quantizer = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFFlat(quantizer, width, cells, faiss.METRIC_INNER_PRODUCT)
    index.train(unit)
    index.add(unit)
    index.nprobe = min(_CELLS_SEARCHED, cells)
    for top in range(0, len(unit), block):
        limits, _, found = index.range_search(unit[top : top + block], least)
        own = np.repeat(np.arange(top, top + len(limits) - 1), np.diff(limits).astype(np.int64))
        other = found != own
        yield own[other], found[other]


_FINDERS: dict[str, Callable[[np.ndarray, float, int, torch.device], Pairs]] = {
    "exact": _exact_pairs,
    "faiss": _faiss_pairs,
}


def _groups(rows: int, pairs: Pairs) -> np.ndarray:
    """The components that the pairs join; of the pairs themselves only a million are held."""
    groups = np.arange(rows)
    held: list[tuple[np.ndarray, np.ndarray]] = []
    size = 0
    for first, second in pairs:
        held.append((first, second))
        size += len(first)
        if size >= _PAIRS_AT_ONCE:
            groups, held, size = _joined(groups, held), [], 0
    return _joined(groups, held)


def _joined(groups: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Groups (n,) after the pairs' groups are made one; numbered by their first row, in order."""
    rows = len(groups)
    if pairs:
        ends = [groups[np.concatenate(side)] for side in zip(*pairs, strict=True)]
        graph = scipy.sparse.coo_array((np.ones(len(ends[0])), tuple(ends)), shape=(rows, rows))
        groups = connected_components(graph, directed=False)[1][groups]
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
