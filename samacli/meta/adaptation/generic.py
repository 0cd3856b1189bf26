"""(∂u/∂g)ᵀ·x for any optimiser, from a dry run of its own step."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from samacli.meta.adaptation.dry_run import OpaqueStepError, dry_run
from samacli.meta.perturb import dot, norm
from samacli.meta.shards import is_sharded


def generic_product(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor], vectors: Sequence[Tensor]
) -> float:
    """x ← (∂u/∂g)ᵀ·x in place, u being the step the optimiser would take now with `p.grad`.

    What the optimiser remembered before its last step is gone, so the step is repeated from its
    present state; the running averages of the two differ by one update. The product is made
    by autograd through a dry run. Where the step hides from autograd, it is ∂u/∂g·x instead,
    by a central difference of two dry runs: the same where ∂u/∂g is symmetric, as it is for
    element-wise and for spectral updates (Muon).
    Where u does not change with g at all (sign updates: Lion, Rprop), x is left as it is, which
    makes the method SAMA without adaptation, and a warning says so.

    Sharded parameters (FSDP2) are no different, if the optimiser's step works on them: DTensors
    communicate what it computes over whole parameters, such as their norms.

    Extra memory: copies of the parameters, the gradients and the optimiser's state.
    Returns ⟨x, product⟩.
    """
    members = [
        p
        for group in optimizer.param_groups
        for p in group["params"]
        if p.grad is not None and p.requires_grad
    ]
    wanted = dict(zip(params, vectors, strict=True))
    x = [wanted[p] if p in wanted else torch.zeros_like(p) for p in members]
    try:
        product = _by_autograd(optimizer, members, x)
    except (OpaqueStepError, RuntimeError, TypeError, ValueError, AttributeError) as reason:
        warnings.warn(
            f"{type(optimizer).__name__} can't be differentiated ({reason}): its adaptation "
            "is taken from differences of dry runs",
            stacklevel=2,
        )
        product = _by_difference(optimizer, members, x)
    product = [_sharded_like(p, y) for p, y in zip(members, product, strict=True)]
    found = dict(zip(members, product, strict=True))
    if not _all_groups_move(optimizer, found, wanted):
        warnings.warn(
            f"the update of {type(optimizer).__name__} does not change with the size of the "
            "gradient (a sign update?): going on without adaptation, as sama-na",
            stacklevel=2,
        )
        for p, vector in wanted.items():
            if p not in found:
                vector.zero_()
        return norm(list(vectors)) ** 2
    slope = dot(x, product)
    for p, vector in wanted.items():
        if p in found:
            vector.copy_(found[p])
        else:
            vector.zero_()
    return slope


def _sharded_like(param: Tensor, tensor: Tensor) -> Tensor:
    """A sharded tensor distributed over processes as the parameter is."""
    if not is_sharded(param):
        return tensor
    return tensor.redistribute(param.device_mesh, param.placements)  # type: ignore[attr-defined]


def _states(optimizer: torch.optim.Optimizer, params: Sequence[Tensor]) -> list[dict[str, Any]]:
    return [optimizer.state.get(p, {}) for p in params]


def _by_autograd(
    optimizer: torch.optim.Optimizer, params: list[Tensor], x: list[Tensor]
) -> list[Tensor]:
    with torch.enable_grad():
        values = [p.detach() for p in params]
        grads = [p.grad.detach().clone().requires_grad_() for p in params if p.grad is not None]
        moved, _ = dry_run(optimizer, params, values, grads, _states(optimizer, params))
        # u = θ_before − θ_after
        outputs = [(m, -w) for m, w in zip(moved, x, strict=True) if m.requires_grad]
        if not outputs:
            return [torch.zeros_like(p) for p in params]
        found = torch.autograd.grad(
            [m for m, _ in outputs], grads, [w for _, w in outputs], allow_unused=True
        )
    return [torch.zeros_like(p) if g is None else g for p, g in zip(params, found, strict=True)]


def _by_difference(
    optimizer: torch.optim.Optimizer, params: list[Tensor], x: list[Tensor]
) -> list[Tensor]:
    values = [p.detach() for p in params]
    grads = [p.grad.detach() for p in params if p.grad is not None]
    states = _states(optimizer, params)
    length = norm(x)
    if length == 0:
        return [torch.zeros_like(p) for p in params]
    epsilon = torch.finfo(params[0].dtype).eps ** (1 / 3) * norm(grads) / length

    def moved(by: float) -> list[Tensor]:
        shifted = [g.add(w, alpha=by) for g, w in zip(grads, x, strict=True)]
        return dry_run(optimizer, params, values, shifted, states, differentiable=False)[0]

    with torch.no_grad():
        behind, ahead = moved(-epsilon), moved(epsilon)
        return [(b - a) / (2 * epsilon) for a, b in zip(ahead, behind, strict=True)]


def _all_groups_move(
    optimizer: torch.optim.Optimizer, found: dict[Tensor, Tensor], wanted: dict[Tensor, Tensor]
) -> bool:
    """Whether the product is other than 0 in every group where the vector is."""
    for group in optimizer.param_groups:
        members = [p for p in group["params"] if p in found and p in wanted]
        if norm([wanted[p] for p in members]) > 0 and norm([found[p] for p in members]) == 0:
            return False
    return True
