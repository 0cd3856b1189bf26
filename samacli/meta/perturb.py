"""Look at the model a little off θ, and give θ back bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from samacli.meta.distributed import DataParallel, averaged_in_place
from samacli.meta.shards import any_sharded, local, reshard, summed_over_shards


class Perturbation:
    """The points θ ± ε·v, made in the memory of v.

    Adding ε·v to θ and subtracting it again would not give θ back in floating point. Here v's
    memory becomes the perturbed point, and the parameters are pointed at it for the duration of a
    pass; where FSDP gathers them from memory of its own, point and parameters swap their contents
    instead. θ comes back bit for bit, v is used up, and nothing of their size is allocated.
    """

    def __init__(
        self, model: nn.Module, params: Sequence[Tensor], v: Sequence[Tensor], epsilon: float
    ) -> None:
        self._model = model
        self._params = list(params)
        self._theta = [local(p.detach()) for p in params]
        self._point = [local(x) for x in v]
        self._epsilon = epsilon
        self._in_place = any_sharded(params)
        with torch.no_grad():
            for theta, x in zip(self._theta, self._point, strict=True):
                torch.add(theta, x, alpha=epsilon, out=x)

    @property
    def epsilon(self) -> float:
        """The current point is θ + epsilon·v."""
        return self._epsilon

    def move_to(self, epsilon: float) -> None:
        """Go to θ + epsilon·v. With −ε, to the mirror image of the present point, δ ↦ −δ."""
        with torch.no_grad():
            torch._foreach_lerp_(self._point, self._theta, 1 - epsilon / self._epsilon)
        self._epsilon = epsilon

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters have the perturbed values, and take no part in autograd, inside."""
        with frozen(self._params), self._swapped() if self._in_place else self._pointed():
            yield

    def recover(self) -> None:
        """Make v's memory hold v again, up to the rounding of θ; the perturbation is over."""
        with torch.no_grad():
            torch._foreach_sub_(self._point, self._theta)
            torch._foreach_div_(self._point, self._epsilon)

    @contextmanager
    def _pointed(self) -> Iterator[None]:
        homes = [p.data for p in self._params]
        try:
            for param, point in zip(self._params, self._point, strict=True):
                param.data = point
            yield
        finally:
            for param, home in zip(self._params, homes, strict=True):
                param.data = home

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        reshard(self._model)
        _swap(self._theta, self._point)
        try:
            yield
        finally:
            reshard(self._model)
            _swap(self._theta, self._point)


def _swap(a: Sequence[Tensor], b: Sequence[Tensor], size: int = 1 << 20) -> None:
    """Exchange contents, `size` elements at a time."""
    with torch.no_grad():
        for x, y in zip(a, b, strict=True):
            pieces = [(x, y)]
            if x.is_contiguous() and y.is_contiguous():
                pieces = list(zip(x.view(-1).split(size), y.view(-1).split(size), strict=True))
            for left, right in pieces:
                kept = left.clone()
                left.copy_(right)
                right.copy_(kept)


@contextmanager
def frozen(params: Iterable[Tensor]) -> Iterator[None]:
    """The parameters take no part in autograd inside."""
    params = [p for p in params if p.requires_grad]
    # autocast keeps low-precision copies of trained parameters, which might be out of date
    torch.clear_autocast_cache()
    try:
        for param in params:
            param.requires_grad_(False)
        yield
    finally:
        for param in params:
            param.requires_grad_(True)
        torch.clear_autocast_cache()


def nudge(
    params: Sequence[Tensor],
    v: Sequence[Tensor],
    length: float,
    parallel: DataParallel | None = None,
) -> None:
    """θ ← θ − length·v/‖v‖, in place: a step of the given length that lowers the meta loss.

    Replicas must stay identical, so they take the mean of their v.
    """
    if length == 0:
        return
    if not any_sharded(v):
        averaged_in_place(v, None if parallel is None or parallel.exact else parallel)
    size = norm(v)
    if size == 0:
        return
    with torch.no_grad():
        torch._foreach_add_([local(p) for p in params], [local(x) for x in v], alpha=-length / size)


def norm(tensors: Sequence[Tensor]) -> float:
    """Euclidean norm of a list of tensors as one vector, over all shards."""
    parts = [local(t.detach()) for t in tensors]
    if not parts:
        return 0.0
    numbers = torch.stack([n.to(parts[0].device) for n in torch._foreach_norm(parts)])
    return math.sqrt(float(summed_over_shards(numbers.double().square().sum(), tensors)))


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Inner product of two lists of tensors as vectors, over all shards."""
    if not a:
        return 0.0
    with torch.no_grad():
        parts = [(local(x) * local(y)).sum(dtype=torch.float64) for x, y in zip(a, b, strict=True)]
        return float(
            summed_over_shards(torch.stack([p.to(parts[0].device) for p in parts]).sum(), a)
        )
