"""The two kinds of table: methods on noisy labels, and subsets of the training rows.

Each has its methods by name, and says what of a recipe concerns a run. All else (rows, resuming,
processes, pages of rows that are current) is the same for both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

from samacli.lab.table.description import Workflow
from samacli.recipe import Recipe
from samacli.registry import METHODS
from samacli.runs.prune.methods import PRUNING_METHODS, plain_runs

# Of a recipe's top level, what changes no run: words, the seeds (a row has its own), and the
# preset, whose values are spelled out beside it.
NOT_OF_A_RUN = {"checkpoint", "description", "seed", "repeats", "preset"}
# Of the section prune, what is not of a single run: a cell is one score, measured one way.
NOT_OF_A_SUBSET = {"scores", "baselines", "verify"}
# What concerns a selection by a score that a plain run makes.
OF_A_RIVAL = {"class_balanced", "score_runs"}


class Method(Protocol):
    """What the table asks of a method, of either kind."""

    @property
    def uses_clean(self) -> bool: ...

    @property
    def description(self) -> str: ...


def methods(workflow: Workflow) -> Mapping[str, Method]:
    """Those that a table of that kind may have, by name."""
    return METHODS if workflow == "reweight" else PRUNING_METHODS


def prunes(workflow: Workflow, method: str) -> bool:
    """Whether a method asks how much to keep."""
    return workflow == "prune" and PRUNING_METHODS[method].prunes


def learns_weights(method: str) -> bool:
    """Whether a method is of the SAMA family, which the sections meta and reweight are for."""
    return method.split("-")[0] == "sama"


def cost(workflow: Workflow, recipe: Recipe, method: str) -> float | None:
    """About how many plain training runs it takes; None: only rows of that method can tell."""
    return plain_runs(recipe, method) if workflow == "prune" else None


def concerning(
    workflow: Workflow, recipe: Recipe, method: str, keep: float | None = None
) -> dict[str, Any]:
    """What in a recipe concerns a run of a method, as it stands in a YAML file."""
    content = recipe.model_dump(mode="json", exclude=NOT_OF_A_RUN)
    if workflow == "reweight":
        _leave_reweighting(content, method)
    else:
        _leave_pruning(content, method, keep)
    data = content["data"]
    # Rows that are taken out of another split are lacking there, whoever uses the clean set.
    carved = data["meta"] in (data["train"], data["validation"], data["test"])
    if not methods(workflow)[method].uses_clean and not carved:
        data["meta"] = data["meta_per_class"] = data["meta_seed"] = None
    return content


def digest(content: dict[str, Any]) -> str:
    """Twelve hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _leave_reweighting(content: dict[str, Any], method: str) -> None:
    del content["prune"]
    del content["reweight"]["baselines"]
    if not learns_weights(method):
        del content["meta"], content["reweight"]


def _leave_pruning(content: dict[str, Any], method: str, keep: float | None) -> None:
    del content["reweight"]
    config = {k: v for k, v in content.pop("prune").items() if k not in NOT_OF_A_SUBSET}
    spec = PRUNING_METHODS[method]
    if not learns_weights(method):
        del content["meta"]
        config = {k: v for k, v in config.items() if k in OF_A_RIVAL}
    if spec.scoring is None:
        return
    if keep is not None:
        config["keep"] = [keep]
    elif not learns_weights(method):
        config.pop("class_balanced")
    content["prune"] = config
