"""The module that mixes a sample's given label with what the model believes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LabelCorrector(nn.Module):
    """q_i = (1−γ_i)·T[y_i] + γ_i·softmax(log p_i / τ): a soft label, with λ = (T, τ, γ's net).

    T (classes, classes): row y is what the given label y stands for, learned, at first almost
        all on y itself.
    p_i (classes,): the model's belief, a softmax of its present logits or of its moving
        average's; no gradient goes into it.
    τ: sharpens or softens the belief.
    γ_i in (0, 1): how far to trust the belief, from the belief's entropy H (1 for an even one) and
        from its probability of the given label:
            γ = sigmoid(a + b·H + c·p_i[y]), at first a = 2, b = −4, c = −5,
        so that a confident belief in another label is heard and an undecided one is not: γ is
        0.02 before the model knows anything. An even start is not left by training: where the
        belief agrees with the label there is nothing to learn from, and elsewhere the belief, being
        the model's own, gives the base model no gradient.

    num_classes: number of classes; trust: initial T[y, y].
    """

    def __init__(self, num_classes: int, *, trust: float = 0.95) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError("labels can be corrected among two classes or more")
        odds = trust / (1 - trust) * (num_classes - 1)
        self.transition = nn.Parameter(torch.eye(num_classes) * torch.tensor(odds).log())
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.gate = nn.Linear(2, 1)
        with torch.no_grad():
            self.gate.weight.copy_(torch.tensor([[-4.0, -5.0]]))
            self.gate.bias.fill_(2.0)

    def forward(self, label: Tensor, belief: Tensor) -> Tensor:
        """label (n,) of class numbers, belief (n, classes) of probabilities -> (n, classes).

        Rows of the result are probabilities.
        """
        belief = belief.detach()
        log_belief = belief.clamp_min(torch.finfo(belief.dtype).tiny).log()
        scale = torch.tensor(belief.shape[-1], device=belief.device).log()
        entropy = -(belief * log_belief).sum(-1) / scale
        agreement = belief.gather(-1, label[:, None]).squeeze(-1)
        gate = torch.sigmoid(self.gate(torch.stack([entropy, agreement], dim=-1)))
        own = F.softmax(self.transition[label], dim=-1)
        believed = F.softmax(log_belief / self.log_temperature.exp(), dim=-1)
        return (1 - gate) * own + gate * believed
