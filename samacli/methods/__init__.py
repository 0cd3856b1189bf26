"""Every way of training on noisy labels that is compared: SAMA and what one would try instead.

One seam for all, by the names of `samacli.registry.METHODS`: `run_method(experiment, name, seed)`.
Each starts from the same initial model and trains with the same frozen parts, optimiser and number
of steps, unless its description says otherwise. Rows and seconds differ, and each
run tells its own.
"""

from __future__ import annotations

from samacli.errors import SamaError, nearest
from samacli.methods.run import MethodRun
from samacli.progress import Planned
from samacli.registry import METHODS, load
from samacli.training.experiment import Experiment

__all__ = ["MethodRun", "check_methods", "planned", "run_method"]


def run_method(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """Train by one method with one seed, and measure it on the test split.

    Raises:
        SamaError: no such method, or the experiment lacks what it needs (`check_methods`).
    """
    check_methods(experiment, [name])
    run: MethodRun = load(METHODS[name].where)(experiment, name, seed)
    return run


def planned(experiment: Experiment, name: str, seed: int) -> list[Planned]:
    """The trainings that `run_method` will take, in order."""
    method = METHODS[name]
    if method.planned is None:
        return [experiment.planned(f"{name}, seed {seed}", name)] if method.steps else []
    found: list[Planned] = load(method.planned)(experiment, name, seed)
    return found


def check_methods(experiment: Experiment, names: list[str]) -> None:
    """Refuse what could not run before anything has taken its time.

    Raises:
        SamaError: an unknown method, no clean set for one that needs it, a missing library.
    """
    for name in names:
        if name not in METHODS:
            raise SamaError(f"no method is called '{name}'{nearest(name, METHODS)}")
        method = METHODS[name]
        if method.uses_clean and experiment.meta is None:
            raise SamaError(
                f"{name} uses a clean set, and none is given; give --meta FILE (data.meta), or "
                f"leave {name} out"
            )
        if method.check is not None:
            load(method.check)(experiment)
