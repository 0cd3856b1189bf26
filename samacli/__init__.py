"""samacli: learn by scalable meta learning how much each training example should count.

In a notebook: `samacli.reweight`, `samacli.prune` and `samacli.WeightedTrainer`. They are imported
when they are first asked for: torch and transformers take seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samacli.api import Result, prune, reweight
    from samacli.errors import SamaError
    from samacli.trainer import WeightedTrainer, rows_to_train_on

__version__ = "0.1.0"
__all__ = [
    "Result",
    "SamaError",
    "WeightedTrainer",
    "__version__",
    "prune",
    "reweight",
    "rows_to_train_on",
]

_WHERE = {
    "Result": "samacli.api",
    "SamaError": "samacli.errors",
    "WeightedTrainer": "samacli.trainer",
    "prune": "samacli.api",
    "reweight": "samacli.api",
    "rows_to_train_on": "samacli.trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'samacli' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
