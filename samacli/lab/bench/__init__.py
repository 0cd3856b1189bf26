"""`sama bench`: what the estimators cost, beside plain training and in one run with it."""

from samacli.lab.bench.contenders import ESTIMATORS, FORMS, Contender, contenders
from samacli.lab.bench.row import Row
from samacli.lab.bench.run import Plan, bench
from samacli.lab.bench.setting import Setting, settings

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
