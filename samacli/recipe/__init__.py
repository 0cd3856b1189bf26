"""Recipes: what a run is told, typed and validated."""

from samacli.recipe.schema import (
    Columns,
    Data,
    Meta,
    Model,
    Noise,
    Optimizer,
    Prune,
    Recipe,
    Reweight,
    Task,
    Training,
)

__all__ = [
    "Columns",
    "Data",
    "Meta",
    "Model",
    "Noise",
    "Optimizer",
    "Prune",
    "Recipe",
    "Reweight",
    "Task",
    "Training",
]
