"""What a linear model on the pretrained representation believes of each example beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samacli.training.objective import forward_corrected

_STEPS, _RATE, _RIDGE = 150, 0.05, 2e-4
_CLEAN_PART = 0.4  # of the loss; the given labels' likelihood makes up the rest
_SCALE = 20.0  # divides standardised features, so that one rate and ridge suit all widths of model


@dataclass(frozen=True)
class LinearBelief:
    """A softmax regression on standardised features; `fit_linear_belief` makes it.

    mean, deviation: (features,). weight: (features + 1, classes), the last row the bias.
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """features (n, f) -> log-probabilities (n, classes)."""
        return (_with_bias(features, self.mean, self.deviation) @ self.weight).log_softmax(-1)


def fit_linear_belief(
    features: Tensor,
    given: Tensor,
    clean_features: Tensor,
    clean_labels: Tensor,
    log_likelihood: Tensor,
    offset: Tensor | float = 0.0,
) -> LinearBelief:
    """Softmax regression from given labels, through what they stand for, and from clean ones.

    Minimises 0.6·mean −log Σ_c p(c)·P(given | c) + 0.4·mean −log p(clean) + ridge: a few clean
    labels alone cannot fill a representation, and given labels alone say where they were wrong
    (forward correction, Patrini et al. 2017). Deterministic.

    features: (n, f) of the training examples; given: (n,) class numbers, −1 for none.
    clean_features: (m, f); clean_labels: (m,). log_likelihood: (given, true), as `label_likelihood`
    gives it. offset: of clean rows' logits (classes,), as in `clean_loss`.
    """
    mean, deviation = moments(features)
    told = given >= 0
    inputs = _with_bias(features[told], mean, deviation)
    rows = log_likelihood[given[told]]
    clean = _with_bias(clean_features, mean, deviation)
    weight = torch.zeros(inputs.shape[1], log_likelihood.shape[1], device=features.device)
    weight.requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=_RATE)
    with torch.enable_grad():
        for _ in range(_STEPS):
            noisy = forward_corrected(inputs @ weight, rows)
            loss = _RIDGE * weight[:-1].square().sum()
            if len(clean):
                certain = torch.nn.functional.cross_entropy(clean @ weight + offset, clean_labels)
                loss = loss + _CLEAN_PART * certain
            if len(noisy):
                loss = loss + (1 - _CLEAN_PART) * noisy.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return LinearBelief(mean, deviation, weight.detach())


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each feature, (features,) both; the latter never 0."""
    return features.mean(0), features.std(0).clamp_min(1e-6)


def standardised(features: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Features on the scale that rates and ridges of linear models here are meant for."""
    return (features - mean) / deviation / _SCALE


def _with_bias(features: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    scaled = standardised(features, mean, deviation)
    return torch.cat([scaled, scaled.new_ones(len(scaled), 1)], dim=1)


@dataclass(frozen=True)
class Mixture:
    """How a model's belief p and a fixed one π are best multiplied: (g·log p + (1−g)·log π) / τ."""

    gate: float
    temperature: float

    def trusting_the_model(self) -> Mixture:
        """With log p at least once and half of log π: for a model that goes on learning."""
        a = max(self.gate / self.temperature, 1.0)
        b = (1 - self.gate) / self.temperature / 2
        return Mixture(gate=a / (a + b), temperature=1 / (a + b))


def fit_mixture(
    belief: Tensor, fixed: Tensor, labels: Tensor, start: Mixture, offset: Tensor | float = 0.0
) -> Mixture:
    """The mixture that makes held-out clean labels likeliest (stacking, Wolpert 1992).

    belief, fixed: log-probabilities (m, classes); labels (m,). Two numbers are fitted, a = g/τ and
    b = (1−g)/τ, by penalised likelihood: the start counts as much as 10 examples or so.
    offset: of the rows' logits (classes,), as in `clean_loss`.
    """
    start_logs = torch.tensor(
        [start.gate / start.temperature, (1 - start.gate) / start.temperature],
        device=belief.device,
    ).log()
    logs = start_logs.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logs], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        a, b = logs.exp()
        logits = a * belief + b * fixed + offset
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
        penalty = (loss + 5 * (logs - start_logs).square().sum()) / len(labels)
        penalty.backward()
        return penalty

    with torch.enable_grad():
        optimizer.step(closure)
    a, b = (float(x) for x in logs.detach().clamp(-4, 2).exp())
    return Mixture(gate=a / (a + b), temperature=1 / (a + b))
