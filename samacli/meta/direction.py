"""v, the direction along which the base loss is differentiated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from samacli.meta.adaptation import adapt
from samacli.meta.perturb import norm
from samacli.meta.preserve import preserved
from samacli.meta.problem import Problem


@dataclass
class Direction:
    """v and what is known about it.

    params: the parameters that the optimiser trains and the meta loss reaches.
    v: one tensor for each of them.
    slope: ⟨∂L_meta/∂θ, v⟩, the rate at which the meta loss changes along v.
    loss: L_meta(θ).
    """

    params: list[Tensor]
    v: list[Tensor]
    slope: float
    loss: float


def direction(problem: Problem, meta_batch: Any, method: str = "sama") -> Direction:
    """v = (∂u/∂g)ᵀ ∂L_meta/∂θ ("sama"), or ∂L_meta/∂θ ("sama-na").

    v is made in the meta gradient's own memory: nothing else of the parameters' size is
    allocated. `p.grad`, buffers and the random state are left as they are.

    Raises ValueError if the meta loss reaches no trained parameter, RuntimeError if no step has
    been taken or its gradients are gone ("sama").
    """
    params = [p for g in problem.optimizer.param_groups for p in g["params"] if p.requires_grad]
    if not params:
        raise ValueError("the optimiser holds no trainable parameters")
    torch.clear_autocast_cache()  # its low-precision copies may be older than the last step
    with preserved(problem.model), torch.enable_grad():
        loss = problem.meta_loss(problem.model, meta_batch)
        grads = torch.autograd.grad(loss, params, allow_unused=True)
    reached = [(p, g) for p, g in zip(params, grads, strict=True) if g is not None]
    del grads
    if not reached:
        raise ValueError("the meta loss does not depend on any parameter that is trained")
    theta = [p for p, _ in reached]
    v = _owned([g for _, g in reached])
    slope = adapt(problem.optimizer, theta, v) if method == "sama" else norm(v) ** 2
    return Direction(theta, v, slope, float(loss.detach()))


def _owned(grads: list[Tensor]) -> list[Tensor]:
    """Gradients that may be written to: autograd can hand out expanded or shared memory."""
    seen: set[int] = set()
    owned = []
    for grad in grads:
        storage = grad.untyped_storage()
        alone = storage.nbytes() == grad.numel() * grad.element_size()
        owned.append(grad if alone and storage.data_ptr() not in seen else grad.clone())
        seen.add(storage.data_ptr())
    return owned
