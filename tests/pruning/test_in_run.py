"""What a run tells of each row, against the same by hand."""

from __future__ import annotations

import numpy as np
import torch
from scipy.special import log_softmax

from samacli.pruning.scores import Learnt, MeanLoss
from samacli.training.observation import Observation

ROWS, CLASSES = 12, 3


def epochs(count: int) -> list[Observation]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (ROWS,), generator=generator)
    labels[5] = -1
    seen = []
    for epoch in range(count):
        order = torch.randperm(ROWS, generator=generator)
        for part, rows in enumerate(order.split(4)):
            logits = 2 * torch.randn(4, CLASSES, generator=generator)
            progress = (3 * epoch + part) / (3 * count)
            seen.append(Observation(rows, labels[rows], logits, None, progress))
    return seen


def test_losses_are_means_over_all_visits_of_what_is_above_the_batch() -> None:
    found = MeanLoss(ROWS)
    every: list[list[float]] = [[] for _ in range(ROWS)]
    for seen in epochs(4):
        found.observe(seen)
        own = -log_softmax(seen.logits.double().numpy(), axis=1)
        labels = seen.labels.numpy()
        losses = own[np.arange(4), labels]
        common = losses[labels >= 0].mean()
        for row, loss in zip(seen.index.tolist(), losses, strict=True):
            every[row].append(loss - common)
    expected = np.array([np.mean(values) for values in every])
    expected[5] = np.nan
    np.testing.assert_allclose(found.result(), expected, rtol=1e-5, atol=1e-6)


def test_learnt_is_right_at_every_visit_after_a_fifth_of_the_run() -> None:
    found = Learnt(ROWS)
    wrong = np.zeros(ROWS)
    for seen in epochs(10):
        found.observe(seen)
        if seen.progress >= 0.2:
            wrong[seen.index] += (seen.logits.argmax(-1) != seen.labels).numpy()
    result = found.result()
    assert np.isnan(result[5])
    known = np.arange(ROWS) != 5
    np.testing.assert_array_equal(result[known] == 1, wrong[known] == 0)


def test_rows_that_are_always_right_are_learnt_though_they_were_not_at_first() -> None:
    found = Learnt(2)
    labels = torch.tensor([0, 1])
    for step in range(10):
        right = torch.tensor([[3.0, 0.0], [0.0, 3.0]])
        found.observe(
            Observation(torch.arange(2), labels, right if step else -right, None, step / 10)
        )
    assert found.result().tolist() == [1.0, 1.0]
