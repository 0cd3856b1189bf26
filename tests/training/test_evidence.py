"""Features against independent definitions."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import entropy

from samacli.training.evidence import Evidence, feature_count, feature_matrix


@pytest.fixture
def evidence() -> Evidence:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=generator) * 3
    averaged = logits + torch.randn(50, 4, generator=generator)
    return Evidence(logits, torch.randint(0, 4, (50,), generator=generator), averaged)


def test_uncertainty_is_the_divergence_from_the_averaged_model(evidence: Evidence) -> None:
    assert evidence.averaged_logits is not None
    p = evidence.averaged_logits.double().softmax(-1)
    q = evidence.logits.double().softmax(-1)
    torch.testing.assert_close(
        evidence.uncertainty.double(),
        torch.from_numpy(entropy(p, q, axis=-1)),
        rtol=1e-4,
        atol=1e-6,
    )


def test_without_an_averaged_model_nothing_is_uncertain(evidence: Evidence) -> None:
    assert not Evidence(evidence.logits, evidence.labels).uncertainty.any()


def test_features_are_scaled_to_the_unit_range(evidence: Evidence) -> None:
    names = ["loss", "label", "uncertainty", "entropy", "margin", "prediction"]
    matrix = feature_matrix(evidence, names)
    assert matrix.shape == (50, feature_count(names, 4)) == (50, 8)
    p = evidence.logits.double().softmax(-1).numpy()
    torch.testing.assert_close(
        matrix[:, 2].double(),
        torch.from_numpy(entropy(p, axis=-1) / math.log(4)),
        rtol=1e-4,
        atol=1e-5,
    )
    for i, label in enumerate(evidence.labels.tolist()):
        rival = max(p[i][c] for c in range(4) if c != label)
        assert matrix[i, 3].item() == pytest.approx(p[i][label] - rival, abs=1e-5)
    even = Evidence(torch.zeros(1, 4), torch.tensor([2]))
    assert feature_matrix(even, ["loss"]).item() == pytest.approx(1.0)


def test_certain_predictions_stay_finite() -> None:
    certain = Evidence(
        torch.tensor([[1e4, 0.0], [0.0, 1e4]]),
        torch.tensor([0, 0]),
        torch.tensor([[0.0, 1e4], [0.0, 1e4]]),
    )
    names = ["loss", "uncertainty", "entropy", "margin", "prediction"]
    assert torch.isfinite(feature_matrix(certain, names)).all()
