"""The module that turns a given label and what is believed into a soft label."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LabelCorrector(nn.Module):
    """A soft label for each sample, from three opinions of it multiplied; λ says how loud each is.

        log q_i(c) = log softmax_c [ (g_i·log p_i(c) + (1−g_i)·log π_i(c)) / τ + U[y_i, c] ]

    p_i (classes,): the belief of the model in training (or of its moving average).
    π_i (classes,): a belief fixed beforehand, where there is one; else g_i = 1.
    U[y, c] = log P(given label y | true class c), a class transition: how likely the given label is
        if c were true. A sample without a given label (y = −1) has U = 0: belief alone.
    g_i in (0, 1): a gate between both beliefs, from their entropies and their agreement ⟨p_i, π_i⟩.
    τ: the temperature of what they say together.

    With τ = 1 and g = 1 the gradient of the cross-entropy with q is that of
    −log Σ_c p(c)·P(y | c), the forward-corrected likelihood of Patrini et al. 2017 (expectation
    maximisation, q being the expectation): soft labels that neither repeat wrong labels nor need
    to be sure of the right ones. λ are deviations from the starting values, zero at first, so that
    decoupled weight decay draws them to the start and not to an even transition.

    Args:
        num_classes: number of classes.
        log_likelihood: U to start from (given, true); default: `label_likelihood` without counts.
        gate, temperature: g (where there is a fixed belief) and τ to start from.
    """

    start: Tensor
    start_gate: Tensor
    start_log_temperature: Tensor

    def __init__(
        self,
        num_classes: int,
        log_likelihood: Tensor | None = None,
        *,
        gate: float = 1 / 3,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError("labels can be corrected among two classes or more")
        if log_likelihood is None:
            nothing = torch.zeros(0, dtype=torch.long)
            log_likelihood = label_likelihood(
                nothing, nothing, torch.full((num_classes,), 1 / num_classes)
            )
        self.register_buffer("start", log_likelihood.float().clone())
        self.register_buffer("start_gate", torch.tensor(math.log(gate / (1 - gate))))
        self.register_buffer("start_log_temperature", torch.tensor(math.log(temperature)))
        self.transition = nn.Parameter(torch.zeros(num_classes, num_classes))
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.gate = nn.Linear(3, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def start_from(self, log_likelihood: Tensor, gate: float, temperature: float) -> None:
        """Other starting values: U (given, true), g in (0, 1), τ. What was learnt stays on top."""
        self.start.copy_(log_likelihood)
        self.start_gate.fill_(math.log(gate / (1 - gate)))
        self.start_log_temperature.fill_(math.log(temperature))

    def forward(self, label: Tensor, belief: Tensor, fixed: Tensor | None = None) -> Tensor:
        """label (n,) of class numbers or −1, log p (n, classes), log π likewise -> q (n, classes).

        Rows of the result are probabilities. No gradient goes into either belief.
        """
        belief = belief.detach()
        if fixed is not None:
            fixed = fixed.detach()
            p, prior = belief.exp(), fixed.exp()
            facts = torch.stack([entropy(p), entropy(prior), (p * prior).sum(-1)], dim=-1)
            gate = torch.sigmoid(self.start_gate + self.gate(facts))
            belief = gate * belief + (1 - gate) * fixed
        temperature = (self.start_log_temperature + self.log_temperature).exp()
        given = (label >= 0).unsqueeze(-1)
        told = (self.start + self.transition)[label.clamp_min(0)] * given
        return (belief / temperature + told).softmax(-1)


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy of each row (n, classes) -> (n,), 1 for an even one."""
    tiny = torch.finfo(probabilities.dtype).tiny
    nats = -(probabilities * probabilities.clamp_min(tiny).log()).sum(-1)
    return nats / math.log(max(probabilities.shape[-1], 2))


def label_likelihood(
    given: Tensor,
    true: Tensor,
    marginal: Tensor,
    *,
    strength: float = 50.0,
    shrink: float = 0.7,
    trust: float = 0.5,
) -> Tensor:
    """log P(given label | true class), (given, true), from few samples with both labels.

    Counts alone are worth little (10 samples a class say nothing of most of the cells), so they
    are added to a prior of two numbers that all samples speak for: with probability ρ the given
    label is the true one, else it is drawn from the given labels at large:
        P = normalised over y of  strength·(ρ·1[y = c] + (1−ρ)·marginal[y]) + counts[y, c].
    ρ is shrink · (agreement − chance) / (1 − chance). The shrinking: what fools one labelling
    rule is mostly a thing that the text shows (a word), so that given labels and a model's belief
    err together, and their product would count one mistake twice.

    given, true: (m,) class numbers, given −1 for none. marginal: (classes,), frequencies of the
    given labels in the training data. trust: shrunk ρ where no sample has both labels.
    """
    classes = len(marginal)
    both = (given >= 0) & (true >= 0)
    given, true = given[both], true[both]
    marginal = marginal.double().clamp_min(1e-3)
    marginal = marginal / marginal.sum()
    rho = trust
    if len(given):
        agreement = float((given == true).double().mean())
        chance = float(marginal[true].mean())
        rho = min(max(shrink * (agreement - chance) / (1 - chance), 0.05), 0.95)
    prior = rho * torch.eye(classes, dtype=torch.float64, device=marginal.device)
    table = strength * (prior + (1 - rho) * marginal[:, None])
    table.index_put_((given, true), torch.ones_like(given, dtype=torch.float64), accumulate=True)
    return (table / table.sum(0)).clamp_min(1e-4).log().float()
