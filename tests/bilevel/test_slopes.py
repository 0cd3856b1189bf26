"""Weights fitted to slopes: the regression against scikit-learn's, shares, what teaches nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from samacli.bilevel import slopes
from samacli.bilevel.slopes import Projection, SlopeRegression

CLASSES, COLUMNS = 3, 4


def rows(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row numbers, labels, evidence, and slopes that depend on both."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, COLUMNS, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    of_class = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0.5], [0, 0, 0, 2]])
    found = (x * of_class[labels]).sum(1) - 0.5 * labels
    return torch.arange(count), labels, x, found + 0.3 * torch.randn(count, generator=generator)


def taught(shares: Tensor | None = None, *, batch: int = 30, steps: int = 40) -> SlopeRegression:
    fitted = SlopeRegression(COLUMNS, CLASSES, shares)
    index, labels, x, found = rows(1200)
    for at in range(0, batch * steps, batch):
        part = slice(at, at + batch)
        fitted.learn(index[part], labels[part], x[part], found[part])
    return fitted


def test_it_is_scikit_learns_ridge_on_all_that_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slopes, "_GROWTH", 0.0)  # a fit at each meta step
    batch, steps = 30, 40
    fitted = taught(batch=batch, steps=steps)
    index, labels, x, found = rows(batch * steps)
    step = index // batch
    size = torch.stack([found[step == s].square().mean().sqrt() for s in range(steps)])
    c = (found / size[step]).clamp(-4, 4).double().numpy()
    age = ((step + 1) / steps).double().numpy() ** 3
    phi = fitted.columns(x, labels).double().numpy()
    fold = (index * 7919 % 5).numpy()

    def fit(penalty: float, use: np.ndarray) -> tuple[StandardScaler, Ridge]:
        scaler = StandardScaler().fit(phi[use], sample_weight=age[use])
        ridge = Ridge(alpha=penalty * age[use].sum(), solver="cholesky")
        return scaler, ridge.fit(scaler.transform(phi[use]), c[use], sample_weight=age[use])

    def error(penalty: float) -> float:
        total = 0.0
        for k in range(5):
            scaler, ridge = fit(penalty, fold != k)
            left = fold == k
            residual = c[left] - ridge.predict(scaler.transform(phi[left]))
            total += float((age[left] * residual**2).sum())
        return total

    errors = [error(penalty) for penalty in slopes._PENALTIES]
    best = int(np.argmin(errors))
    scaler, ridge = fit(slopes._PENALTIES[best], np.ones(len(c), bool))
    expected = ridge.predict(scaler.transform(phi))
    np.testing.assert_allclose(fitted.predict(x, labels).numpy(), expected, rtol=1e-3, atol=1e-4)
    mean = np.average(c, weights=age)
    explained = 1 - errors[best] / (age * (c - mean) ** 2).sum()
    assert float(fitted.explained) == pytest.approx(explained, rel=1e-4)
    assert explained > 0.5
    deviation = np.sqrt(
        np.average((expected - np.average(expected, weights=age)) ** 2, weights=age)
    )
    assert float(fitted.deviation) == pytest.approx(deviation, rel=1e-3)


def test_weights_are_even_before_the_first_fit_and_then_follow_the_slopes() -> None:
    fitted = taught(steps=3)
    _, labels, x, found = rows(300, seed=1)
    assert torch.equal(fitted(x, labels), torch.ones(300))
    weights = taught()(x, labels)
    assert weights.min() > 0.01, "no row is lost to the next fit"
    assert weights[found > 0.5].mean() > 5 * weights[found < -0.5].mean()


def test_slopes_that_nothing_predicts_leave_weights_even() -> None:
    fitted = SlopeRegression(COLUMNS, CLASSES, None)
    index, labels, x, _ = rows(1200)
    noise = torch.randn(1200, generator=torch.Generator().manual_seed(9))
    for part in torch.arange(1200).split(30):
        fitted.learn(index[part], labels[part], x[part], noise[part])
    assert fitted.explained < slopes._LEAST_EXPLAINED
    assert torch.equal(fitted(x, labels), torch.ones(1200))


def test_slopes_that_differ_between_classes_alone_order_no_rows() -> None:
    """As in a run too short to learn anything, whose slopes are of classes and nothing else."""
    index, labels, x, _ = rows(1200)
    noise = torch.randn(1200, generator=torch.Generator().manual_seed(9))
    of_class = torch.tensor([-2.0, 0.5, 2.0])[labels] + 0.3 * noise
    shares = torch.full((CLASSES,), 1 / CLASSES)
    found = {}
    for name, given in (("shares", shares), ("none", None)):
        fitted = SlopeRegression(COLUMNS, CLASSES, given)
        for part in torch.arange(1200).split(30):
            fitted.learn(index[part], labels[part], x[part], of_class[part])
        found[name] = fitted
    assert not found["shares"].fitted
    assert found["shares"].explained < slopes._LEAST_EXPLAINED
    assert found["none"].fitted, "where classes have no shares, it tells which to weigh"
    assert taught(shares).fitted


def test_given_classes_have_their_share_of_the_loss() -> None:
    shares = torch.tensor([0.2, 0.5, 0.3])
    fitted = taught(shares)
    _, labels, x, _ = rows(4000, seed=2)
    for part in torch.arange(4000).split(40):
        weights = fitted(x[part], labels[part])
        fitted.follow(fitted.masses(weights, labels[part]))
    weights = fitted(x, labels)
    found = torch.zeros(3).index_add_(0, labels, weights) / weights.sum()
    torch.testing.assert_close(found, shares, atol=0.04, rtol=0)
    without = fitted(x[:5], torch.full((5,), -1))
    assert without.isfinite().all()
    assert (without > 0).all()


def test_given_classes_have_their_share_before_there_are_slopes() -> None:
    """What the clean rows' frequencies do is not to be taken for what slopes do."""
    shares = torch.tensor([0.2, 0.5, 0.3])
    unfitted = SlopeRegression(COLUMNS, CLASSES, shares)
    generator = torch.Generator().manual_seed(3)
    labels = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), 64, True, generator=generator)
    x = torch.randn(64, COLUMNS, generator=generator)
    weights = unfitted(x, labels)
    torch.testing.assert_close(weights, weights[:1].expand(64), msg="all alike at first")
    for _ in range(50):
        unfitted.follow(unfitted.masses(unfitted(x, labels), labels))
    weights = unfitted(x, labels)
    found = torch.zeros(CLASSES).index_add_(0, labels, weights) / weights.sum()
    torch.testing.assert_close(found, shares, atol=1e-3, rtol=0)
    for label in range(CLASSES):
        assert weights[labels == label].std() < 1e-6


def test_bad_steps_and_rows_that_do_not_count_teach_nothing() -> None:
    one, other = taught(), taught()
    index, labels, x, found = rows(30, seed=3)
    some = torch.arange(30) < 20
    one.learn(index, labels, x, torch.where(some, found, torch.nan))
    other.learn(index[some], labels[some], x[some], found[some])
    torch.testing.assert_close(one.gram, other.gram)
    aged = one.gram * (one.count / (one.count + 1)) ** 3
    one.learn(index, labels, x * torch.nan, found * torch.nan, torch.tensor(False))
    torch.testing.assert_close(one.gram, aged)
    assert one.gram.isfinite().all()


def test_state_is_all_there_is() -> None:
    cut = taught(steps=25)
    again = SlopeRegression(COLUMNS, CLASSES, None)
    again.load_state_dict(cut.state_dict())
    index, labels, x, found = rows(1200)
    for at in range(25 * 30, 1200, 30):
        part = slice(at, at + 30)
        again.learn(index[part], labels[part], x[part], found[part])
    whole = taught()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_many_classes_stay_small() -> None:
    assert len(SlopeRegression(1000, 500, None).beta) <= 1000 + 501 * 2


def test_a_projection_is_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(200, 50, generator=generator) @ torch.randn(50, 50, generator=generator) + 3
    ours = Projection.fit(table)(table).numpy()
    standard = StandardScaler().fit_transform(table.double().numpy())
    theirs = PCA(32, whiten=True, svd_solver="full").fit_transform(standard)
    theirs *= np.sqrt(200 / 199)  # of deviation 1 over the rows, not of the population's estimate
    signs = np.sign((ours * theirs).sum(0))
    np.testing.assert_allclose(ours * signs, theirs, rtol=1e-3, atol=1e-3)
    constant = torch.ones(5, 3)
    assert Projection.fit(constant)(constant).shape == (5, 0)
