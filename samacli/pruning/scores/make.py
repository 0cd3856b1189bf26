"""The scores by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from samacli.errors import SamaError, nearest
from samacli.pruning.scores.aum import AUM
from samacli.pruning.scores.ccs import CCS
from samacli.pruning.scores.dual import DUAL
from samacli.pruning.scores.el2n import EL2N
from samacli.pruning.scores.entropy import Entropy
from samacli.pruning.scores.forgetting import Forgetting
from samacli.pruning.scores.grand import GraNd
from samacli.pruning.scores.least_confidence import LeastConfidence
from samacli.pruning.scores.margin import Margin
from samacli.pruning.scores.prototypes import Prototypes
from samacli.pruning.scores.random import Random
from samacli.pruning.scores.score import Score


@dataclass(frozen=True)
class _Run:
    examples: int
    classes: int
    device: torch.device | str
    seed: int


SCORES: dict[str, Callable[[_Run], Score]] = {
    "random": lambda run: Random(run.examples, seed=run.seed),
    "el2n": lambda run: EL2N(run.examples, device=run.device),
    "grand": lambda run: GraNd(run.examples, device=run.device),
    "forgetting": lambda run: Forgetting(run.examples, device=run.device),
    "margin": lambda run: Margin(run.examples, device=run.device),
    "entropy": lambda run: Entropy(run.examples, device=run.device),
    "least_confidence": lambda run: LeastConfidence(run.examples, device=run.device),
    "aum": lambda run: AUM(run.examples, device=run.device),
    "prototypes": lambda run: Prototypes(run.examples, prototypes=run.classes, seed=run.seed),
    "ccs": lambda run: CCS(run.examples, device=run.device),
    "dual": lambda run: DUAL(run.examples, device=run.device),
}


def make_scores(
    names: Sequence[str],
    examples: int,
    classes: int,
    *,
    device: torch.device | str,
    seed: int,
) -> dict[str, Score]:
    """The named scores at their papers' settings, ready to look on at a run, in the given order.

    examples: rows of the training split. device: where the run's batches are.

    Raises:
        SamaError: no score has such a name.
    """
    for name in names:
        if name not in SCORES:
            raise SamaError(
                f"there is no score '{name}' (there are {', '.join(SCORES)}){nearest(name, SCORES)}"
            )
    run = _Run(examples, classes, device, seed)
    return {name: SCORES[name](run) for name in names}
