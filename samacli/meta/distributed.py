"""One meta gradient from many replicas, each with batches of its own.

Replicas hold the same θ, optimiser state and λ, and the base gradient in `p.grad` is their mean,
as under DistributedDataParallel. Each makes v and differentiates along it on its own batches, and
the shares are averaged once, while the pass that makes them is still running:
    mean_r [ −(∂²L_r/∂λ∂θ)·v_r ]        (the paper's; v_r = (∂u/∂g)ᵀ ∂L_meta,r/∂θ)
which is off from the gradient on the joined batch by the covariance, over replicas, of the mixed
derivative with v. With `exact`, v is averaged as well and nothing is off:
    mean_r [ −(∂²L_r/∂λ∂θ)·v ],  v = mean_r v_r.
Under FSDP2 the backward pass of the meta loss averages v anyway.

Source: "Making Scalable Meta Learning Practical", arXiv 2310.05674, section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_BYTES = 25 << 20  # as DistributedDataParallel's


@dataclass(frozen=True)
class DataParallel:
    """How replicas agree.

    group: the process group of the replicas; None: all processes.
    exact: average v too, at the price of one more reduction, of θ's size, per meta step.
    """

    group: Any = None
    exact: bool = False

    @property
    def size(self) -> int:
        """The number of replicas."""
        return dist.get_world_size(self.group)


class Average:
    """Means over the replicas of tensors that become ready one by one.

    Reductions start bucket by bucket, in one order on all replicas (the last tensors first, as
    backward passes make them), as soon as a bucket is full. Tensors that never become ready on
    this replica count as 0. Without `parallel`, the mean is the tensor itself.

    like: tensors of the shapes to be averaged.
    """

    def __init__(self, like: Sequence[Tensor], parallel: DataParallel | None) -> None:
        self._like = list(like)
        self._values: list[Tensor | None] = [None] * len(self._like)
        self._group = None if parallel is None else parallel.group
        self._size = 1 if parallel is None else parallel.size
        self._buckets = _buckets(self._like) if self._size > 1 else []
        self._works: list[tuple[Tensor, Any]] = []

    def ready(self, index: int, value: Tensor) -> None:
        """This replica's share of a tensor is known."""
        self._values[index] = value
        while len(self._works) < len(self._buckets):
            bucket = self._buckets[len(self._works)]
            if any(self._values[i] is None for i in bucket):
                return
            self._start(bucket)

    @contextmanager
    def collecting(
        self, params: Sequence[Tensor], share: Callable[[int, Tensor], Tensor]
    ) -> Iterator[None]:
        """Gradients of `params` taken inside become ready as the backward pass makes them.

        share(index, gradient) -> what is to be averaged.
        """

        def collect(index: int, grad: Tensor) -> None:
            self.ready(index, share(index, grad))

        handles = [p.register_hook(partial(collect, i)) for i, p in enumerate(params)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def wait(self) -> list[Tensor]:
        """The means, once they are there."""
        for i, (value, like) in enumerate(zip(self._values, self._like, strict=True)):
            if value is None:
                self.ready(i, torch.zeros_like(like))
        for bucket, (flat, work) in zip(self._buckets, self._works, strict=True):
            work.wait()
            flat /= self._size
            pieces = flat.split([self._like[i].numel() for i in bucket])
            for i, piece in zip(bucket, pieces, strict=True):
                self._values[i] = piece.view(self._like[i].shape)
        self._buckets, self._works = [], []
        return [value for value in self._values if value is not None]

    def _start(self, bucket: list[int]) -> None:
        shares = [value for i in bucket if (value := self._values[i]) is not None]
        flat = torch.cat([share.reshape(-1) for share in shares])
        self._works.append((flat, dist.all_reduce(flat, group=self._group, async_op=True)))


def average(tensors: Sequence[Tensor], parallel: DataParallel | None) -> Average:
    """Start averaging tensors over the replicas; `wait()` gives the means.

    All replicas must call it in the same order with tensors of the same shapes.
    """
    means = Average(tensors, parallel)
    for i, tensor in reversed(list(enumerate(tensors))):
        means.ready(i, tensor)
    return means


def averaged_in_place(tensors: Sequence[Tensor], parallel: DataParallel | None) -> None:
    """Average over the replicas in the tensors' own memory."""
    if parallel is None or parallel.size == 1:
        return
    works = [dist.all_reduce(t, group=parallel.group, async_op=True) for t in tensors]
    for work in works:
        work.wait()
    torch._foreach_div_(list(tensors), parallel.size)


def _buckets(tensors: Sequence[Tensor]) -> list[list[int]]:
    """Positions, last first, of neighbours of one dtype and device, in sizes worth a message."""
    buckets: list[list[int]] = []
    size = 0
    for i in reversed(range(len(tensors))):
        tensor = tensors[i]
        head = tensors[buckets[-1][0]] if buckets else tensor
        alike = (tensor.dtype, tensor.device) == (head.dtype, head.device)
        if not buckets or not alike or size >= BUCKET_BYTES:
            buckets.append([])
            size = 0
        buckets[-1].append(i)
        size += tensor.numel() * tensor.element_size()
    return buckets
