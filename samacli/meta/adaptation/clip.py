"""What clipping by the global norm does to ∂u/∂g: the step took ĝ = c·g in place of g."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samacli.meta.shards import local, summed_over_shards

_EPSILON = 1e-6  # torch's own, in clip_grad_norm_


@dataclass(frozen=True)
class Clip:
    """A call of `clip_grad_norm_`: ĝ = c·g with c = min(1, C/(‖g‖ + 1e-6)).

    norm: ‖g‖, which it returned. most: C.
    """

    norm: Tensor
    most: float

    @property
    def factor(self) -> Tensor:
        """c, () on the device."""
        return (self.most / (self.norm.double() + _EPSILON)).clamp(max=1.0)

    @property
    def pull(self) -> Tensor:
        """k of ∂ĝ/∂g = c·I − k·ĝĝᵀ: 1/(C·‖g‖) where it clipped, else 0; () on the device."""
        norm = self.norm.double()
        clipped = self.most < norm + _EPSILON
        return torch.where(clipped, 1 / (self.most * norm), torch.zeros_like(norm))


def along_gradient(params: Sequence[Tensor], vectors: Sequence[Tensor]) -> Tensor:
    """⟨ĝ, x⟩ over all shards, () float64; parameters without a gradient count for nothing."""
    total = torch.zeros((), dtype=torch.float64, device=local(params[0]).device)
    for p, x in zip(params, vectors, strict=True):
        if p.grad is not None:
            grad = local(p.grad).reshape(-1)
            total += torch.dot(grad, local(x).reshape(-1).to(grad)).to(total)
    return summed_over_shards(total, params)


@torch.no_grad()
def through_clip(clip: Clip, params: Sequence[Tensor], vectors: Sequence[Tensor]) -> Tensor:
    """Replace y by (∂ĝ/∂g)ᵀ·y = c·y − k·ĝ⟨ĝ, y⟩ in place; `p.grad` is ĝ. Returns ⟨ĝ, y⟩."""
    inner = along_gradient(params, vectors)
    for p, y in zip(params, vectors, strict=True):
        part = local(y)
        part.mul_(clip.factor.to(part))
        if p.grad is not None:
            part.sub_(local(p.grad) * (clip.pull * inner).to(part))
    return inner
