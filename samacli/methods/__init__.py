"""Every way of training on noisy labels that is compared: SAMA and what one would try instead.

One seam for all: `run_method(experiment, name, seed)`. Each starts from the same initial model and
trains with the same frozen parts, optimiser and number of steps, unless its description says
otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from samacli.errors import SamaError, nearest
from samacli.methods import confident_learning, plain, probe, robust, sama, sequential
from samacli.methods.run import MethodRun
from samacli.training.experiment import Experiment

__all__ = ["METHODS", "MethodRun", "MethodSpec", "check_methods", "run_method"]

Runner = Callable[[Experiment, str, int], MethodRun]
Check = Callable[[Experiment], None]


@dataclass(frozen=True)
class MethodSpec:
    """A method by name.

    uses_clean: whether it sees the clean set.
    run: from a prepared experiment, the method's name and a seed.
    check: raises SamaError where the experiment lacks what the method needs; None: nothing special.
    """

    name: str
    uses_clean: bool
    description: str
    run: Runner
    check: Check | None = None


METHODS: dict[str, MethodSpec] = {
    spec.name: spec
    for spec in (
        MethodSpec("noisy", False, "training on the noisy rows as they are", plain.noisy),
        MethodSpec("clean", True, "training on the clean set alone", plain.clean),
        MethodSpec("mixed", True, "training on noisy and clean rows together", plain.mixed),
        MethodSpec(
            "clean-then-noisy",
            True,
            "half of the steps on the clean set, then half on the noisy rows",
            sequential.clean_then_noisy,
        ),
        MethodSpec(
            "noisy-then-clean",
            True,
            "half of the steps on the noisy rows, then half on the clean set",
            sequential.noisy_then_clean,
        ),
        MethodSpec(
            "early-stopping",
            True,
            "noisy rows; the best of ten states by accuracy on the clean set",
            robust.early_stopping,
        ),
        MethodSpec(
            "loss-truncation",
            False,
            "noisy rows without the highest losses of each batch",
            robust.loss_truncation,
        ),
        MethodSpec("elr", False, "Early-Learning Regularization on the noisy rows", robust.elr),
        MethodSpec(
            "confident-learning",
            False,
            "noisy rows without those that cleanlab finds mislabelled; a run a fold more",
            confident_learning.confident_learning,
            confident_learning.check,
        ),
        MethodSpec(
            "linear-probe",
            True,
            "logistic regression on frozen embeddings of the clean set",
            probe.clean,
            probe.check_clean,
        ),
        MethodSpec(
            "linear-probe-noisy",
            False,
            "logistic regression on frozen embeddings of the noisy rows",
            probe.noisy,
            probe.check_noisy,
        ),
        MethodSpec("sama-na", True, "sama without algorithmic adaptation", sama.sama_na),
        MethodSpec("sama", True, "weights learnt from the clean set by SAMA", sama.sama),
    )
}


def run_method(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Train by one method with one seed, and measure it on the test split.

    Raises:
        SamaError: no such method, or the experiment lacks what it needs (`check_methods`).
    """
    check_methods(experiment, [name])
    return METHODS[name].run(experiment, name, seed)


def check_methods(experiment: Experiment, names: list[str]) -> None:
    """Refuse what could not run before anything has taken its time.

    Raises:
        SamaError: an unknown method, no clean set for one that needs it, a missing library.
    """
    for name in names:
        if name not in METHODS:
            raise SamaError(f"no method is called '{name}'{nearest(name, METHODS)}")
        spec = METHODS[name]
        if spec.uses_clean and experiment.meta is None:
            raise SamaError(
                f"{name} uses a clean set, and none is given; give --meta FILE (data.meta), or "
                f"leave {name} out"
            )
        if spec.check is not None:
            spec.check(experiment)
