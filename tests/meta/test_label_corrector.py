"""Soft labels against Bayes' rule and the forward-corrected likelihood written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor
from torch.nn import functional as F

from samacli.meta import LabelCorrector
from samacli.meta.label_corrector import entropy, label_likelihood


def beliefs(count: int, classes: int, seed: int) -> Tensor:
    """Log-probabilities (count, classes) in float64."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(count, classes, generator=generator, dtype=torch.float64)).log_softmax(
        -1
    )


def likelihood(classes: int, seed: int) -> Tensor:
    """log P(given | true), drawn at random (given, true)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(classes, classes, generator=generator).log_softmax(0)


def learnt(corrector: LabelCorrector, seed: int = 0) -> LabelCorrector:
    """The corrector in float64 with parameters that have moved."""
    generator = torch.Generator().manual_seed(seed)
    corrector = corrector.double()
    with torch.no_grad():
        for p in corrector.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return corrector


@pytest.mark.parametrize("moved", [False, True])
def test_the_gradient_is_that_of_the_forward_corrected_likelihood(moved: bool) -> None:
    corrector = LabelCorrector(5, likelihood(5, seed=1)).double()
    if moved:
        learnt(corrector)
        corrector.log_temperature.data.zero_()
    logits = beliefs(40, 5, seed=2).requires_grad_()
    label = torch.arange(40) % 5
    loss = F.cross_entropy(logits, corrector(label, logits.log_softmax(-1)).detach())
    (ours,) = torch.autograd.grad(loss, logits)
    told = (corrector.start + corrector.transition).detach().exp()
    probable = (logits.softmax(-1) * told[label]).sum(-1)
    (reference,) = torch.autograd.grad(-probable.log().mean(), logits)
    torch.testing.assert_close(ours, reference)


def test_no_gradient_goes_into_the_beliefs() -> None:
    belief, fixed = (beliefs(6, 3, seed=seed).requires_grad_() for seed in (1, 2))
    LabelCorrector(3).double()(torch.arange(6) % 3, belief, fixed).square().sum().backward()
    assert belief.grad is None
    assert fixed.grad is None


def test_without_a_given_label_the_belief_stands() -> None:
    corrector = LabelCorrector(4, likelihood(4, seed=3)).double()
    belief = beliefs(8, 4, seed=4)
    label = torch.tensor([-1, 2] * 4)
    soft = corrector(label, belief)
    torch.testing.assert_close(soft[::2], belief[::2].exp())
    assert (soft[1::2] - belief[1::2].exp()).abs().amax(-1).min() > 1e-3


def test_it_starts_at_the_product_of_the_beliefs_and_the_label() -> None:
    corrector = LabelCorrector(3, likelihood(3, seed=5))
    other = likelihood(3, seed=6)
    corrector.start_from(other, gate=0.8, temperature=1.5)
    corrector = corrector.double()
    belief, fixed = beliefs(10, 3, seed=7), beliefs(10, 3, seed=8)
    label = torch.arange(10) % 3
    p, pi, table = belief.exp().numpy(), fixed.exp().numpy(), other.double().exp().numpy()
    expected = (p**0.8 * pi**0.2) ** (1 / 1.5) * table[label.numpy()]
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(
        corrector(label, belief, fixed).detach().numpy(), expected, rtol=1e-5
    )


def test_other_starting_values_leave_what_was_learnt_on_top() -> None:
    corrector = learnt(LabelCorrector(3, likelihood(3, seed=5), gate=0.3))
    before = {name: p.detach().clone() for name, p in corrector.named_parameters()}
    other = likelihood(3, seed=6).double()
    corrector.start_from(other, gate=0.9, temperature=0.5)
    for name, p in corrector.named_parameters():
        assert torch.equal(p, before[name]), name
    belief, fixed = beliefs(10, 3, seed=7), beliefs(10, 3, seed=8)
    label = torch.tensor([0, 1, 2, -1, 0, 1, 2, -1, 0, 1])
    p, pi = belief.exp(), fixed.exp()
    facts = torch.stack(
        [
            -(p * belief).sum(-1) / math.log(3),
            -(pi * fixed).sum(-1) / math.log(3),
            (p * pi).sum(-1),
        ],
        dim=-1,
    )
    pull = (facts @ before["gate.weight"].T + before["gate.bias"]).exp()
    odds = 9 * pull
    gate = odds / (1 + odds)
    temperature = 0.5 * before["log_temperature"].exp()
    told = torch.where(
        (label >= 0)[:, None], (other + before["transition"])[label.clamp_min(0)], 0.0
    )
    expected = ((gate * belief + (1 - gate) * fixed) / temperature + told).softmax(-1)
    torch.testing.assert_close(corrector(label, belief, fixed), expected, rtol=1e-5, atol=1e-7)


def test_all_that_is_learnt_gets_a_gradient() -> None:
    torch.manual_seed(0)
    corrector = LabelCorrector(4)
    belief, fixed = beliefs(30, 4, seed=1).float(), beliefs(30, 4, seed=2).float()
    (corrector(torch.arange(30) % 4, belief, fixed) * torch.randn(30, 4)).sum().backward()
    for name, p in corrector.named_parameters():
        assert p.grad is not None, name
        assert (p.grad.abs() > 1e-5).all(), name


def test_it_stays_at_the_given_label_unless_the_belief_is_sure_of_another() -> None:
    corrector = LabelCorrector(6)
    undecided, agreeing = torch.full((6,), 1 / 6), torch.tensor([0.95] + [0.01] * 5)
    soft = corrector(
        torch.tensor([0, 0, 0]), torch.stack([undecided, agreeing, agreeing.roll(2)]).log()
    )
    assert torch.allclose(soft.sum(-1), torch.ones(3))
    right, wrong = 0.5 + 0.5 / 6, 0.5 / 6  # half of the labels are trusted, the others are even
    assert soft[0, 0].item() == pytest.approx(right)
    assert soft[1, 0].item() == pytest.approx(0.95 * right / (0.95 * right + 0.05 * wrong))
    assert soft[2, 2].item() == pytest.approx(
        0.95 * wrong / (0.95 * wrong + 0.04 * wrong + 0.01 * right)
    )


def test_certain_beliefs_give_finite_labels_and_gradients() -> None:
    corrector = LabelCorrector(3)
    sure = (1e4 * torch.eye(3)).log_softmax(-1)
    label = torch.tensor([0, 2, -1])
    for fixed in (None, sure, sure.roll(1, 0)):
        corrector.zero_grad()
        soft = corrector(label, sure, fixed)
        entropy(soft).sum().backward()
        assert soft.isfinite().all()
        gradients = [p.grad for p in corrector.parameters() if p.grad is not None]
        assert len(gradients) == (2 if fixed is None else 4)
        assert all(gradient.isfinite().all() for gradient in gradients)


def test_one_class_leaves_nothing_to_correct() -> None:
    with pytest.raises(ValueError, match="two classes or more"):
        LabelCorrector(1)


def labelled(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """(given, true, frequencies of the given), of four unequal classes, confused unevenly."""
    generator = np.random.default_rng(seed)
    true = generator.choice(4, count, p=[0.4, 0.3, 0.2, 0.1])
    table = generator.dirichlet([1, 1, 1, 1], size=4)
    given = np.array([generator.choice(4, p=table[c]) for c in true])
    return (
        torch.from_numpy(given),
        torch.from_numpy(true),
        torch.from_numpy(np.bincount(given, minlength=4) / count),
    )


@pytest.mark.parametrize("count", [0, 1, 25, 20_000])
def test_a_class_distributes_its_given_labels(count: int) -> None:
    given, true, marginal = labelled(max(count, 10), seed=count)
    table = label_likelihood(given[:count], true[:count], marginal).exp()
    torch.testing.assert_close(table.sum(0), torch.ones(4), rtol=0, atol=1e-3)
    assert (table > 0).all()


def test_many_samples_speak_for_themselves() -> None:
    given, true, marginal = labelled(40_000, seed=1)
    expected = confusion_matrix(true, given, normalize="true").T
    np.testing.assert_allclose(
        label_likelihood(given, true, marginal).exp().numpy(), expected, atol=0.015
    )


def test_without_samples_half_of_the_labels_are_trusted() -> None:
    none = torch.zeros(0, dtype=torch.long)
    marginal = torch.tensor([0.5, 0.3, 0.2])
    expected = 0.5 * np.eye(3) + 0.5 * marginal.numpy()[:, None]
    np.testing.assert_allclose(
        label_likelihood(none, none, marginal).exp().numpy(), expected, rtol=1e-5
    )
    unlabelled = label_likelihood(torch.full((9,), -1), torch.arange(9) % 3, marginal)
    np.testing.assert_allclose(unlabelled.exp().numpy(), expected, rtol=1e-5)


def test_few_samples_say_mostly_how_often_labels_are_right() -> None:
    given = torch.tensor([0, 0, 1, 1, 2, 0])
    true = torch.tensor([0, 0, 1, 1, 2, 2])
    marginal = torch.tensor([0.5, 0.3, 0.2])
    chance = (0.5 * 2 + 0.3 * 2 + 0.2 * 2) / 6
    rho = 0.7 * (5 / 6 - chance) / (1 - chance)
    counts = np.array([[2, 0, 1], [0, 2, 0], [0, 0, 1]])
    expected = 50 * (rho * np.eye(3) + (1 - rho) * marginal.numpy()[:, None]) + counts
    expected /= expected.sum(0)
    np.testing.assert_allclose(
        label_likelihood(given, true, marginal).exp().numpy(), expected, rtol=1e-5
    )


def test_samples_that_lack_a_label_count_for_nothing() -> None:
    given, true, marginal = labelled(60, seed=2)
    silent = torch.full((30,), -1)
    torch.testing.assert_close(
        label_likelihood(torch.cat([given, silent]), torch.cat([true, true[:30]]), marginal),
        label_likelihood(given, true, marginal),
    )


def test_labels_that_are_worse_than_chance_still_make_a_distribution() -> None:
    true = torch.arange(300) % 3
    table = label_likelihood((true + 1) % 3, true, torch.full((3,), 1 / 3)).exp()
    assert (table.argmax(0) == torch.tensor([1, 2, 0])).all()
    torch.testing.assert_close(table.sum(0), torch.ones(3), rtol=0, atol=1e-3)
