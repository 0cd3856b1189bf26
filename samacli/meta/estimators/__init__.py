"""Estimators of the meta gradient: one signature, one file each.

estimator(problem, base_batch, meta_batch, **options) -> one tensor per `meta.parameters()`
"""

from collections.abc import Callable

from torch import Tensor

from samacli.meta.estimators.cg import cg
from samacli.meta.estimators.neumann import neumann
from samacli.meta.estimators.sama import sama
from samacli.meta.estimators.sama_na import sama_na
from samacli.meta.estimators.unrolled import unrolled

ESTIMATORS: dict[str, Callable[..., list[Tensor]]] = {
    "sama": sama,
    "sama-na": sama_na,
    "neumann": neumann,
    "cg": cg,
    "unrolled": unrolled,
}

__all__ = ["ESTIMATORS", "cg", "neumann", "sama", "sama_na", "unrolled"]
