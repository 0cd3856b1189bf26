"""The reweighter: from evidence to a weight and a target for each example, with parameters λ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from samacli.bilevel.features import Evidence, feature_count, feature_matrix
from samacli.bilevel.slopes import SlopeRegression
from samacli.meta import LabelCorrector, MetaWeightNet
from samacli.meta.label_corrector import entropy
from samacli.meta.weight_net import normalized
from samacli.recipe.schema import Feature

# An even soft label weighs (almost) nothing; a power of its confidence, learnt from this start.
_CONFIDENCE_POWER = 2.0


_MOMENT_DECAY = 0.9

# Of a standardised feature: what was the same for all rows until now (the swing of losses before
# anything is visited twice) must not come out of the next step as thousands.
_LEAST_DEVIATION, _FARTHEST = 1e-3, 10.0


class Reweighter(nn.Module):
    """A weight from the chosen features, and optionally a label corrector.

    The weight is a meta-weight-net's, or fitted to slopes.

    With a corrector an example's weight is also a power of its soft label's confidence,
    (1 − H(q)/log c)^κ with κ learnt: where given label and beliefs leave it open what the example
    is, its cross-entropy only makes the model undecided.

    Args:
        features: names of the features, see `samacli.bilevel.features`.
        classes: number of classes.
        hidden: width of the meta-weight-net.
        widths: columns of the features whose number the data decide, see `Facts.widths`.
        corrector: corrects labels; None: they stay as given.
        standardize: bring each feature to mean 0 and deviation 1 over the examples of the latest
            steps (`follow`): what an example is given does not depend on how a step is split into
            passes.
        amortised: the weights are fitted to slopes (`SlopeRegression`, with these `shares`) in
            place of the meta-weight-net.
    """

    seen_moments: Tensor
    steps_followed: Tensor
    weight_net: MetaWeightNet | SlopeRegression

    def __init__(
        self,
        features: Sequence[Feature],
        classes: int,
        *,
        hidden: int = 64,
        widths: Mapping[str, int] | None = None,
        corrector: LabelCorrector | None = None,
        standardize: bool = False,
        amortised: bool = False,
        shares: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.features = tuple(features)
        self.classes = classes
        self.standardize = standardize
        width = feature_count(features, classes, widths or {})
        if amortised:
            self.weight_net = SlopeRegression(width, classes, shares)
        else:
            # An example without a given label has an embedding of its own, the last.
            self.weight_net = MetaWeightNet(
                width,
                num_classes=classes + 1 if "label" in features else None,
                hidden=hidden,
                normalize=False,
            )
        if standardize:
            self.register_buffer(
                "seen_moments", torch.stack([torch.zeros(width), torch.ones(width)])
            )
            self.register_buffer("steps_followed", torch.zeros(()))
        self.corrector = corrector
        self.log_power = None if corrector is None else nn.Parameter(torch.zeros(()))

    @property
    def slopes(self) -> SlopeRegression | None:
        """The weights' function, where it is fitted to slopes."""
        return self.weight_net if isinstance(self.weight_net, SlopeRegression) else None

    def forward(self, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """(weights with mean 1 over the batch (n,), targets)."""
        weights, targets = self.raw(evidence)
        return normalized(weights), targets

    def raw(self, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """Positive, un-normalised weights (n,), and targets.

        Targets are class labels (n,) as given, or corrected distributions (n, classes).
        """
        labels = evidence.labels
        weights = self.of_inputs(self.inputs(evidence), labels)
        if self.corrector is None or self.log_power is None:
            return weights, labels
        targets = self.corrector(labels, evidence.belief, evidence.prior)
        sure = (1 - entropy(targets)).clamp_min(1e-4)
        return weights * sure ** (_CONFIDENCE_POWER * self.log_power.exp()), targets

    def inputs(self, evidence: Evidence) -> Tensor:
        """What the meta-weight-net is given besides labels (n, features)."""
        features = feature_matrix(evidence, self.features)
        if not self.standardize:
            return features
        mean, square = self.seen_moments
        deviation = (square - mean.square()).clamp_min(_LEAST_DEVIATION**2).sqrt()
        return ((features - mean) / deviation).clamp(-_FARTHEST, _FARTHEST)

    def moments(self, evidence: Evidence) -> Tensor:
        """Mean and mean square of each feature over n examples (2, features); 0 over none."""
        features = feature_matrix(evidence, self.features)
        return torch.stack([features, features.square()]).sum(1) / max(len(features), 1)

    @torch.no_grad()
    def follow(self, moments: Tensor, good: Tensor | None = None) -> None:
        """A step's moments, over all its examples; good: a bool (), where false nothing is done.

        A moving average, at first the mean.
        """
        rate = (1 / (1 + self.steps_followed)).clamp_min(1 - _MOMENT_DECAY)
        changed = torch.lerp(self.seen_moments, moments.to(self.seen_moments), rate)
        if good is not None:
            changed = torch.where(good, changed, self.seen_moments)
        self.seen_moments.copy_(changed)
        self.steps_followed += 1 if good is None else good

    def of_inputs(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Positive weights (n,) for `inputs` and given labels (n,), −1 for none."""
        if isinstance(self.weight_net, SlopeRegression):
            return self.weight_net(inputs, labels)
        takes_label = "label" in self.features
        label = torch.where(labels < 0, self.classes, labels) if takes_label else None
        return self.weight_net(inputs, label)
