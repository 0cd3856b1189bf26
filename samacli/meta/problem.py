"""The two forms in which a two-level problem is given to the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from samacli.meta.distributed import DataParallel

BaseLoss = Callable[[nn.Module, nn.Module, Any], Tensor]
MetaLoss = Callable[[nn.Module, Any], Tensor]


@dataclass
class BilevelProblem:
    """min_λ L_meta(θ*(λ)) with θ*(λ) = argmin_θ L_base(θ, λ), in its general form.

    model: the base model; θ are those of its parameters that `optimizer` holds.
    optimizer: any `torch.optim.Optimizer`; its state is read, never changed.
    meta: the module whose parameters are λ.
    base_loss(model, meta, batch) -> scalar tensor.
    meta_loss(model, batch) -> scalar tensor.
    parallel: set where this process is one of several replicas, each with batches of its own;
        `model` is then the module itself, without DistributedDataParallel's wrapper.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    meta: nn.Module
    base_loss: BaseLoss
    meta_loss: MetaLoss
    parallel: DataParallel | None = None


@dataclass
class WeightingProblem:
    """A two-level problem in which λ meets θ only through the model's outputs.

    This holds for sample weighting and label correction: L_base(θ, λ) = J(λ, o(θ)), with the
    weights' features detached from o inside J. No gradient through the base model is then needed
    for the λ side.

    outputs(model, batch) -> tensor (n, ...): logits (n, classes), or per-sample losses (n,).
    objective(meta, outputs, batch) -> scalar: J, for instance mean_i w_i(λ) ℓ_i; it detaches the
        features itself and does not call the base model.
    parallel: as for `BilevelProblem`.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    meta: nn.Module
    outputs: Callable[[nn.Module, Any], Tensor]
    objective: Callable[[nn.Module, Tensor, Any], Tensor]
    meta_loss: MetaLoss
    parallel: DataParallel | None = None
    # Set once λ has been seen to scale the rows of ∂J/∂o alone, as the contraction needs it.
    scales_rows: bool = field(default=False, init=False)

    @property
    def base_loss(self) -> BaseLoss:
        """L_base = J(λ, o(θ)): makes this problem a `BilevelProblem` wherever one is asked for."""

        def composed(model: nn.Module, meta: nn.Module, batch: Any) -> Tensor:
            return self.objective(meta, self.outputs(model, batch), batch)

        return composed


Problem = BilevelProblem | WeightingProblem
