"""Losses against wrong labels, beside their papers' formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from samacli.training.objective import weighted_cross_entropy
from samacli.training.robust import EarlyLearning, LossTruncation


def batch_of(labels: list[int], index: list[int]) -> dict[str, torch.Tensor]:
    return {"labels": torch.tensor(labels), "index": torch.tensor(index)}


def test_elr_gradient_is_the_papers_on_a_second_visit() -> None:
    """Lemma 2: ∂L/∂o = p − y + λ g with g_c = p_c/(1 − ⟨p, t⟩) Σ_k (t_k − t_c) p_k."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    second = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    batch = batch_of([0, 2, 1, 1], [5, 0, 3, 6])
    objective = EarlyLearning(7, 3, strength=3.0, momentum=0.7)
    objective(first, batch)
    loss = objective(second, batch)
    loss.backward()

    p = second.detach().softmax(-1)
    t = 0.7 * (0.3 * first.softmax(-1)) + 0.3 * p
    y = torch.nn.functional.one_hot(batch["labels"], 3)
    inner = (p * t).sum(-1, keepdim=True)
    differences = torch.einsum("nk,nkc->nc", p, t[:, :, None] - t[:, None, :])
    expected = (p - y + 3.0 * p / (1 - inner) * differences) / 4
    torch.testing.assert_close(second.grad, expected, rtol=1e-5, atol=1e-7)
    by_hand = -(p[torch.arange(4), batch["labels"]].log()) + 3.0 * (1 - inner[:, 0]).log()
    torch.testing.assert_close(loss.detach(), by_hand.mean(), rtol=1e-5, atol=1e-7)
    assert objective.targets[[1, 2, 4]].eq(0).all(), "rows that were not visited"


def test_elr_ignores_rows_without_a_label() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 4)
    some = EarlyLearning(3, 4)(logits, batch_of([1, -1, 2], [0, 1, 2]))
    others = EarlyLearning(3, 4)(logits[[0, 2]], batch_of([1, 2], [0, 2]))
    torch.testing.assert_close(some, others)


def test_elr_remembers_what_every_process_saw() -> None:
    torch.manual_seed(0)
    logits, others = torch.randn(2, 3), torch.randn(2, 3)
    alone = EarlyLearning(4, 3)
    alone(torch.cat([logits, others]), batch_of([0, 1, 2, 0], [0, 1, 2, 3]))

    def gather(own: torch.Tensor) -> torch.Tensor:
        if own.ndim == 1:
            return torch.cat([own, torch.tensor([2, 3])])
        return torch.cat([own, others.softmax(-1)])

    first_of_two = EarlyLearning(4, 3, gather=gather)
    first_of_two(logits, batch_of([0, 1], [0, 1]))
    torch.testing.assert_close(first_of_two.targets, alone.targets)


@pytest.mark.parametrize("fraction", [0.3, 0.5])
def test_truncation_keeps_the_smallest_losses_after_the_warmup(fraction: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(9, 3)
    batch = batch_of([0, 1, 2, -1, 0, 1, 2, 0, 1], list(range(9)))
    objective = LossTruncation(fraction, warmup=2)
    for _ in range(2):
        torch.testing.assert_close(objective(logits, batch), weighted_cross_entropy(logits, batch))
    given = batch["labels"].numpy()
    log_p = logits.double().log_softmax(-1).numpy()
    losses = sorted(-log_p[i, given[i]] for i in range(9) if given[i] >= 0)
    kept = losses[: 8 - int(fraction * 8)]
    assert float(objective(logits, batch)) == pytest.approx(np.mean(kept), rel=1e-5)


def test_truncation_of_a_batch_without_labels_asks_for_nothing() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    LossTruncation(0.3, 0)(logits, batch_of([-1, -1], [0, 1])).backward()
    assert logits.grad is not None
    assert logits.grad.eq(0).all()
