"""Weight against loss: what the network says when the loss alone is another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.inspection import partial_dependence

from samacli.bilevel.features import Evidence, feature_matrix
from samacli.bilevel.reweighter import Reweighter
from samacli.bilevel.weight_function import weight_function

CLASSES = 3


def evidence(rows: int = 60) -> Evidence:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, CLASSES, generator=generator) * 2
    labels = torch.arange(rows) % CLASSES
    labels[-5:] = -1
    return Evidence(logits, labels, averaged_logits=logits + 0.3)


def reweighter(*features: str, standardize: bool = False) -> Reweighter:
    torch.manual_seed(0)
    made = Reweighter(features, CLASSES, hidden=8, standardize=standardize)  # type: ignore[arg-type]
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


@pytest.mark.parametrize("standardize", [False, True])
def test_it_is_scikit_learns_partial_dependence(standardize: bool) -> None:
    from sklearn.base import BaseEstimator, RegressorMixin

    known = evidence()
    net = reweighter("entropy", "loss", "label", standardize=standardize)
    if standardize:
        net.follow(net.moments(known))
    trained = (known.labels >= 0).numpy()
    found = weight_function(net, known, trained)
    assert found is not None
    matrix = feature_matrix(known, net.features)
    mean, deviation = torch.zeros(2), torch.ones(2)
    if standardize:
        mean, deviation = matrix.mean(0), matrix.std(0, correction=0)
    weights, _ = net.raw(known)

    class Net(RegressorMixin, BaseEstimator):  # type: ignore[misc]
        def __init__(self, label: int = 0) -> None:
            self.label = label
            self.fitted_ = True

        def fit(self, x: np.ndarray, y: np.ndarray) -> Net:
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            scaled = (torch.from_numpy(x).float() - mean) / deviation
            labels = torch.full((len(x),), self.label)
            return net.weight_net(scaled, labels).detach().double().numpy()

    for label in range(CLASSES):
        rows = matrix[known.labels == label].double().numpy()
        expected = partial_dependence(
            Net(label),
            rows,
            [1],
            custom_values={1: found.loss / np.log(CLASSES)},
            kind="average",
            method="brute",
        )["average"][0]
        expected = expected / float(weights.detach()[known.labels >= 0].mean())
        np.testing.assert_allclose(found.weight[label], expected, rtol=1e-4)


def test_a_class_without_rows_and_a_network_that_does_not_see_the_loss() -> None:
    known = evidence()
    known.labels[known.labels == 1] = 0
    found = weight_function(reweighter("loss"), known, (known.labels >= 0).numpy())
    assert found is not None
    assert np.isnan(found.weight[1]).all()
    assert np.isfinite(found.weight[[0, 2]]).all()
    assert weight_function(reweighter("entropy"), known, (known.labels >= 0).numpy()) is None
    nothing = evidence()
    nothing.labels[:] = -1
    assert weight_function(reweighter("loss"), nothing, np.zeros(60, dtype=bool)) is None
