"""What a score says of one prediction, as plain functions of a batch of b examples.

probabilities: (b, classes) float32, the softmax of the logits. labels: int64 (b,), the given
classes, −1 for none. Every function gives float32 (b,); those that take labels give NaN where there
is none. Examples of a higher value are kept first, as the score's paper advises.
"""

from __future__ import annotations

import torch
from torch import Tensor


def el2n(probabilities: Tensor, labels: Tensor) -> Tensor:
    """‖p − onehot(y)‖₂ (Paul, Ganguli, Dziugaite: "Deep learning on a data diet", 2021, eq. 5)."""
    error = probabilities.clone()
    error[torch.arange(len(labels), device=labels.device), labels.clamp_min(0)] -= 1
    return where_labelled(torch.linalg.vector_norm(error, dim=1), labels)


def grand(probabilities: Tensor, labels: Tensor, features: Tensor, *, bias: bool = True) -> Tensor:
    """‖∇_{W,b} ℓ‖₂ of the last linear layer (GraNd: Paul et al. 2021, definition 2.1).

    Logits z = W h + b have ∂ℓ/∂z = p − onehot(y), hence ∂ℓ/∂W = (p − onehot(y)) hᵀ and
        ‖∇_{W,b} ℓ‖ = ‖p − onehot(y)‖ · √(‖h‖² + 1)      (without the 1 where there is no bias).

    features: h, (b, f) float32.
    """
    return el2n(probabilities, labels) * (features.square().sum(1) + float(bias)).sqrt()


def margin(probabilities: Tensor) -> Tensor:
    """−(p₍₁₎ − p₍₂₎) of the two largest (Scheffer et al. 2001; Coleman et al. 2020): ≤ 0."""
    first, second = probabilities.topk(2, dim=-1).values.unbind(-1)
    return second - first


def entropy(probabilities: Tensor) -> Tensor:
    """−Σ_c p_c log p_c in nats (Settles 2009, section 3.1; Coleman et al. 2020)."""
    return torch.special.entr(probabilities).sum(-1)


def least_confidence(probabilities: Tensor) -> Tensor:
    """1 − max_c p_c (Lewis, Gale 1994; Coleman et al. 2020)."""
    return 1 - probabilities.amax(-1)


def loss(logits: Tensor, labels: Tensor) -> Tensor:
    """−log p_y in nats, from the logits (b, classes), whose softmax may have lost it."""
    values = torch.nn.functional.cross_entropy(logits, labels.clamp_min(0), reduction="none")
    return where_labelled(values, labels)


def where_labelled(values: Tensor, labels: Tensor) -> Tensor:
    """The values (b,), NaN where there is no given label (b,)."""
    return torch.where(labels >= 0, values, torch.nan)
