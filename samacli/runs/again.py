"""A finished run opened again: its data as they were read, and its model."""

from __future__ import annotations

import numpy as np

from samacli.errors import SamaError
from samacli.progress import Progress
from samacli.recipe import Recipe, load_recipe
from samacli.report.finished import FinishedRun
from samacli.store.output import RECIPE_FILE
from samacli.training.experiment import Experiment
from samacli.training.runtime import DeviceName


def recipe_again(run: FinishedRun, wanted: str) -> Recipe:
    """The run's recipe with the model that the run has trained in place of the one it began with.

    wanted: what of the model is asked for, for the message.

    Raises:
        SamaError: the run holds no model.
    """
    folder = run.directory / "model"
    if not folder.is_dir():
        raise SamaError(f"'{run.directory}' holds no model/, {wanted}")
    recipe = load_recipe(str(run.directory / RECIPE_FILE))
    model = recipe.model.model_copy(update={"name": str(folder), "cache_frozen": False})
    return recipe.model_copy(
        update={
            "model": model,
            # The processor that was saved with the model knows how its images were scaled.
            "data": recipe.data.model_copy(update={"normalize": "auto"}),
            "training": recipe.training.model_copy(update={"precision": "fp32", "augment": []}),
            "track": [],
        }
    )


def opened_again(
    run: FinishedRun, recipe: Recipe, device: DeviceName, progress: Progress | None
) -> Experiment:
    """The run's data, from where `recipe_again` says, made ready for its model.

    Raises:
        SamaError: they are not there any more, or have changed.
    """
    experiment = Experiment.prepare(recipe, device=device, progress=progress)
    scores, train = run.scores, experiment.splits.train
    names = np.array([*experiment.splits.classes, None], dtype=object)  # −1 for none
    same = np.array_equal(train.index, scores.index)
    if not same or (names[train.labels] != scores.given).any():
        raise SamaError(
            f"{train.origin} does not have the rows any more that the run in '{run.directory}' was "
            "made of; bring the file back, or run it again"
        )
    return experiment
