"""Recipes: what a run is told, typed and validated."""

from samacli.recipe.load import (
    built_in_recipes,
    dump_recipe,
    load_recipe,
    recipe_path,
    resolve_paths,
)
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
    "built_in_recipes",
    "dump_recipe",
    "load_recipe",
    "recipe_path",
    "resolve_paths",
]
