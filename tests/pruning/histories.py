"""A recorded training run, without a model: what scores are shown, and each row's visits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from samacli.training.observation import Observation


@dataclass
class Visit:
    progress: float
    logits: np.ndarray
    features: np.ndarray
    label: int

    @property
    def probabilities(self) -> np.ndarray:
        exp = np.exp(self.logits - self.logits.max())
        return exp / exp.sum()


def recorded(
    seed: int, *, rows: int = 12, classes: int = 4, steps: int = 40, unlabelled: bool = True
) -> tuple[list[Observation], list[list[Visit]]]:
    """Batches of random rows, at times more often than at others; some rows are never visited.

    Row 0 is never visited, row 1 only once (half way), row 2 has no label where `unlabelled`.
    """
    generator = np.random.default_rng(seed)
    labels = generator.integers(classes, size=rows)
    if unlabelled:
        labels[2] = -1
    # Each row drifts towards some class, so that it is learnt, and forgotten at times.
    drift = generator.normal(size=(rows, classes)) * 2
    run: list[Observation] = []
    visits: list[list[Visit]] = [[] for _ in range(rows)]
    for step in range(steps):
        chosen = generator.permutation(np.arange(2, rows))[: generator.integers(1, rows - 2)]
        if step == steps // 2:
            chosen = np.append(chosen, 1)
        logits = drift[chosen] * step / steps + generator.normal(size=(len(chosen), classes))
        features = generator.normal(size=(len(chosen), 5))
        run.append(
            Observation(
                index=torch.from_numpy(chosen),
                labels=torch.from_numpy(labels[chosen]),
                logits=torch.from_numpy(logits).float(),
                features=torch.from_numpy(features).float(),
                progress=step / steps,
            )
        )
        for row, z, h in zip(chosen, logits, features, strict=True):
            visits[row].append(Visit(step / steps, z, h, int(labels[row])))
    return run, visits
