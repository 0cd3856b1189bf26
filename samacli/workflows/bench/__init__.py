"""`sama bench`: what the estimators cost, beside plain training and in one run with it."""

from samacli.workflows.bench.contenders import ESTIMATORS, FORMS, Contender, contenders
from samacli.workflows.bench.row import Row
from samacli.workflows.bench.run import Plan, bench
from samacli.workflows.bench.setting import Setting, settings

__all__ = [
    "ESTIMATORS",
    "FORMS",
    "Contender",
    "Plan",
    "Row",
    "Setting",
    "bench",
    "contenders",
    "settings",
]
