"""Features against independent definitions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from samacli.bilevel.features import Evidence, feature_count, feature_matrix
from samacli.recipe.schema import Feature
from samacli.registry import FEATURES


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
    assert matrix.shape == (50, feature_count(names, 4, {})) == (50, 8)
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


def test_a_prior_says_what_it_makes_of_the_given_label_and_how_far_the_belief_is_from_it(
    evidence: Evidence,
) -> None:
    assert evidence.averaged_logits is not None
    prior = torch.randn(50, 4, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    labels = torch.where(torch.arange(50) < 5, -1, evidence.labels)
    known = Evidence(evidence.logits, labels, evidence.averaged_logits, prior=prior)
    matrix = feature_matrix(known, ["prior"]).double()
    assert matrix.shape == (50, feature_count(["prior"], 4, {}))
    p = evidence.averaged_logits.double().softmax(-1).numpy()
    pi = prior.double().exp().numpy()
    given = [0.0 if y < 0 else pi[i, y] for i, y in enumerate(labels.tolist())]
    torch.testing.assert_close(
        matrix[:, 0], torch.tensor(given, dtype=torch.float64), rtol=1e-5, atol=1e-6
    )
    hellinger = np.linalg.norm(np.sqrt(p) - np.sqrt(pi), axis=-1) / math.sqrt(2)
    torch.testing.assert_close(matrix[:, 1], torch.from_numpy(hellinger), rtol=1e-3, atol=1e-3)


def test_votes_agree_disagree_or_are_silent() -> None:
    votes = torch.tensor([[0, 1, -1], [2, -1, 2]])
    voted = Evidence(torch.zeros(2, 3), torch.tensor([0, 1]), votes=votes)
    assert feature_matrix(voted, ["votes"]).tolist() == [[1, -1, 0], [-1, 0, -1]]
    assert feature_count(["votes"], 3, {"votes": 3}) == 3


def test_features_of_an_example_without_a_given_label_are_finite(evidence: Evidence) -> None:
    silent = Evidence(
        evidence.logits,
        torch.full((50,), -1),
        evidence.averaged_logits,
        prior=evidence.logits.log_softmax(-1),
        votes=torch.full((50, 2), -1),
        representation=torch.randn(50, 3),
        earlier_losses=torch.zeros(50, 2),
    )
    assert not silent.losses.any()
    names = [
        "loss", "label", "uncertainty", "entropy", "margin", "prediction", "history", "prior",
        "votes", "representation",
    ]  # fmt: skip
    matrix = feature_matrix(silent, names)  # type: ignore[arg-type]
    widths = {"votes": 2, "representation": 3}
    assert matrix.shape == (50, feature_count(names, 4, widths))  # type: ignore[arg-type]
    assert torch.isfinite(matrix).all()
    assert not feature_matrix(silent, ["margin"]).any()


@pytest.mark.parametrize("name", ["history", "prior", "votes", "representation"])
def test_a_feature_whose_facts_were_not_gathered_is_refused(
    evidence: Evidence, name: Feature
) -> None:
    with pytest.raises(ValueError, match=f"'{name}' needs facts"):
        feature_matrix(evidence, [name])


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_of_the_registry_has_the_columns_that_it_says(
    evidence: Evidence, name: str
) -> None:
    whole = replace(
        evidence,
        prior=torch.full((50, 4), 0.25).log(),
        votes=torch.zeros(50, 3, dtype=torch.long),
        representation=torch.ones(50, 7),
        earlier_losses=torch.ones(50, 2),
    )
    found = feature_matrix(whole, [name])
    by_data = {"prediction": 4, "votes": 3, "representation": 7}
    columns = FEATURES[name].columns
    assert found.shape == (50, by_data[name] if columns is None else columns)
    assert found.shape[1] == feature_count([name], 4, {"votes": 3, "representation": 7})
