"""Budgets by name: how much of the time of plain fine-tuning reweighting may take.

A preset is a few values of a recipe. It ranks below what is said at the same place and above what
that place starts from: in a recipe file below the file's own keys and above the recipe that it
extends, on the command line above the file and below KEY=VALUE.
"""

from __future__ import annotations

from typing import Any

# Dotted key to value. They concern reweighting; pruning learns no labels, and takes meta.unroll.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"meta.unroll": 10, "reweight.correction": True, "reweight.clean_batch_size": 8},
    "balanced": {"meta.unroll": 2, "reweight.correction": True},
    "best": {"meta.unroll": 1, "reweight.correction": True},
}
