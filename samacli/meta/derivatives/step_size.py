"""How far to step along v in a difference."""

from __future__ import annotations

import torch

from samacli.meta.direction import Direction
from samacli.meta.perturb import norm
from samacli.meta.shards import sharded_precision

# Bounds on ε‖v‖/‖θ‖, where the rule below has nothing to go by: below the first, θ + ε·v is
# mostly rounding; above the second, the difference is no derivative any more.
SMALLEST, LARGEST = 2e-7, 1e-2


def step_size(at: Direction, power: float = 1 / 3) -> float:
    """ε for the points θ ± ε·v.

    The step is measured by what it does, not by its length: ε·⟨∂L_meta/∂θ, v⟩ = τ·|L_meta|, a
    relative change τ of the meta loss. The same ‖εv‖ changes the outputs by amounts four orders
    of magnitude apart between optimisers and stages of training (adapted vectors point where
    gradients have been small), while this rule lands within a factor 3.
    τ = 0.2·u^(1/3) for a central difference and 0.6·u^(1/2) for a one-sided one (`power`), the
    usual balance of truncation and rounding, with u the rounding unit of the precision the
    passes run in (autocast's where it is on). Factors measured on MiniLM.
    """
    length = norm(at.v)
    if length == 0:
        return 0.0
    unit = norm(at.params) / length or 1.0 / length
    factor = 0.2 if power < 0.4 else 0.6
    target = factor * torch.finfo(_precision(at)).eps ** power * abs(at.loss)
    ratio = target / abs(at.slope) / unit if at.slope != 0 else LARGEST
    return unit * min(max(ratio, SMALLEST), LARGEST)


def half_precision(at: Direction) -> bool:
    """Whether passes run in bf16 or fp16, where differences are mostly rounding."""
    return torch.finfo(_precision(at)).eps > 1e-5


def _precision(at: Direction) -> torch.dtype:
    """What the passes compute in: autocast's, or FSDP's mixed precision, or the parameters' own."""
    device = at.params[0].device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return sharded_precision(at.model) or at.params[0].dtype
