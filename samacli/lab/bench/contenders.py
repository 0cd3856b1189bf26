"""Who takes part: plain training, the estimators, and the forms in which SAMA can be taken."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from samacli.errors import SamaError, nearest

PLAIN = "plain"
SAMA = ("sama", "sama-na")
SECOND_ORDER = ("neumann", "cg", "unrolled")
BETTY = ("betty-sama", "betty-darts")
ESTIMATORS = (PLAIN, *SAMA, *SECOND_ORDER, *BETTY)

# riding: from the next base step's own backward pass (contraction, `samacli.meta.riding`).
# sharing: one more forward pass beside the next base step's (`outputs_and_meta_gradient`).
# apart: a meta step of its own (`weighting_meta_gradient`).
FORMS = ("riding", "sharing", "apart")
# With sample weights alone (no corrected labels), as in `training.meta_level.MetaLevel.base_pass`.
FORM_OF_TRAINING = "riding"


@dataclass(frozen=True)
class Contender:
    """An estimator, and for SAMA the form; None is the form that training uses."""

    estimator: str
    form: str | None = None

    @property
    def name(self) -> str:
        """As on the command line: `sama`, or `sama:riding`."""
        return self.estimator if self.form is None else f"{self.estimator}:{self.form}"


def contenders(names: Sequence[str] | None, world_sizes: Sequence[int]) -> list[Contender]:
    """Plain training first, then the others in the order given; None: all that can take part.

    Raises:
        SamaError: a name or a form that does not exist, or Betty where it is not installed, has
            no such estimator, or would run in several processes.
    """
    if names is None:
        betty = betty_estimators() if set(world_sizes) == {1} else []
        return [Contender(name) for name in (PLAIN, *SAMA, *SECOND_ORDER, *betty)]
    found = [Contender(PLAIN)]
    for name in names:
        contender = _contender(name)
        if contender.estimator in BETTY:
            _check_betty(contender.estimator, world_sizes)
        if contender not in found:
            found.append(contender)
    return found


def _contender(name: str) -> Contender:
    estimator, _, form = name.partition(":")
    if estimator not in ESTIMATORS:
        raise SamaError(
            f"--estimators: '{estimator}' is none of {', '.join(ESTIMATORS)}"
            f"{nearest(estimator, ESTIMATORS)}"
        )
    if not form:
        return Contender(estimator)
    if estimator not in SAMA:
        raise SamaError(f"--estimators {name}: only {' and '.join(SAMA)} have forms")
    if form not in FORMS:
        raise SamaError(
            f"--estimators {name}: the form is none of {', '.join(FORMS)}{nearest(form, FORMS)}"
        )
    return Contender(estimator, form)


def betty_estimators() -> list[str]:
    """Those of `betty-sama` and `betty-darts` that the installed Betty can do."""
    try:
        if importlib.util.find_spec("betty.engine") is None:
            return []
        known = importlib.import_module("betty.hypergradient").jvp_fn_mapping
    except (ImportError, AttributeError):  # none, or another package of that name
        return []
    return [name for name in BETTY if name.removeprefix("betty-") in known]


def _check_betty(name: str, world_sizes: Sequence[int]) -> None:
    known = betty_estimators()
    if name not in known:
        have = f"the one installed has {', '.join(known)}" if known else "none is installed"
        raise SamaError(
            f"--estimators {name} needs a Betty that has it, and {have}; "
            "install one beside samacli, or take the name out"
        )
    if set(world_sizes) != {1}:
        raise SamaError(f"--estimators {name} runs in one process only; give --nproc 1")
