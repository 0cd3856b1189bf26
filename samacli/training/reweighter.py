"""The reweighter: from evidence to a weight and a target for each example, with parameters λ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from samacli.meta import LabelCorrector, MetaWeightNet
from samacli.recipe.schema import Feature
from samacli.training.evidence import Evidence, feature_count, feature_matrix


class Reweighter(nn.Module):
    """Meta-weight-net over the chosen features, and optionally a label corrector.

    Args:
        features: names of the features, see `samacli.training.evidence`.
        classes: number of classes.
        hidden: width of the meta-weight-net.
        correction: whether targets are corrected too.
        standardize: bring each feature to mean 0 and deviation 1 over the examples at hand.
    """

    def __init__(
        self,
        features: Sequence[Feature],
        classes: int,
        *,
        hidden: int,
        correction: bool,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        self.features = tuple(features)
        self.classes = classes
        self.standardize = standardize
        self.weight_net = MetaWeightNet(
            feature_count(features, classes),
            num_classes=classes if "label" in features else None,
            hidden=hidden,
            normalize=False,
        )
        self.corrector = LabelCorrector(classes) if correction else None

    def weights(self, evidence: Evidence) -> Tensor:
        """Positive, un-normalised weights (n,)."""
        labels = evidence.labels if "label" in self.features else None
        features = feature_matrix(evidence, self.features)
        if self.standardize:
            deviation = features.std(dim=0, correction=0).clamp_min(1e-6)
            features = (features - features.mean(dim=0)) / deviation
        return self.weight_net(features, labels)

    def targets(self, evidence: Evidence) -> Tensor:
        """Class labels (n,) as given, or corrected distributions (n, classes)."""
        if self.corrector is None:
            return evidence.labels
        belief = evidence.logits if evidence.averaged_logits is None else evidence.averaged_logits
        return self.corrector(evidence.labels, belief.softmax(-1))

    def forward(self, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """(weights with mean 1 over the batch (n,), targets)."""
        weights = self.weights(evidence)
        return weights / weights.mean().clamp_min(torch.finfo(weights.dtype).tiny), self.targets(
            evidence
        )
