"""Look at the model a little off θ, and give θ back bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class Perturbation:
    """The points θ ± ε·v, made in the memory of v.

    Adding ε·v to θ and subtracting it again would not give θ back in floating point. Here θ is
    never written to: v's memory becomes the perturbed point, and the parameters are pointed at
    it for the duration of a pass. v itself is used up. Nothing is allocated.
    """

    def __init__(self, params: Sequence[Tensor], v: Sequence[Tensor], epsilon: float) -> None:
        self._params = list(params)
        self._point = list(v)
        self._epsilon = epsilon
        with torch.no_grad():
            for param, x in zip(self._params, self._point, strict=True):
                torch.add(param, x, alpha=epsilon, out=x)

    @property
    def epsilon(self) -> float:
        """The current point is θ + epsilon·v."""
        return self._epsilon

    def move_to(self, epsilon: float) -> None:
        """Go to θ + epsilon·v. With −ε, to the mirror image of the present point, δ ↦ −δ."""
        with torch.no_grad():
            torch._foreach_lerp_(self._point, self._params, 1 - epsilon / self._epsilon)
        self._epsilon = epsilon

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters have the perturbed values, and take no part in autograd, inside."""
        homes = [p.data for p in self._params]
        try:
            with frozen(self._params):
                for param, point in zip(self._params, self._point, strict=True):
                    param.data = point
                yield
        finally:
            for param, home in zip(self._params, homes, strict=True):
                param.data = home

    def recover(self) -> None:
        """Make v's memory hold v again, up to the rounding of θ; the perturbation is over."""
        with torch.no_grad():
            torch._foreach_sub_(self._point, self._params)
            torch._foreach_div_(self._point, self._epsilon)


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


def nudge(params: Sequence[Tensor], v: Sequence[Tensor], length: float) -> None:
    """θ ← θ − length·v/‖v‖, in place: a step of the given length that lowers the meta loss."""
    size = norm(v)
    if size == 0 or length == 0:
        return
    with torch.no_grad():
        torch._foreach_add_(list(params), list(v), alpha=-length / size)


def norm(tensors: Sequence[Tensor]) -> float:
    """Euclidean norm of a list of tensors as one vector."""
    if not tensors:
        return 0.0
    with torch.no_grad():
        parts = torch._foreach_norm(list(tensors))
        numbers = torch.stack([n.to(parts[0].device) for n in parts]).tolist()
    return math.sqrt(sum(n**2 for n in numbers))


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Inner product of two lists of tensors as vectors."""
    parts = [(x * y).sum(dtype=torch.float64) for x, y in zip(a, b, strict=True)]
    return float(torch.stack([p.to(parts[0].device) for p in parts]).sum()) if parts else 0.0
