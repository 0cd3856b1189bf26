"""`sama prune`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from samacli.cli import options
from samacli.cli.console import ConsoleProgress, QuietProgress, print_json, stdout
from samacli.cli.launch import in_processes
from samacli.errors import SamaError
from samacli.recipe import load_recipe
from samacli.recipe.schema import PruneBaseline

DEFAULT = "demo-vision"


def prune(
    context: typer.Context,
    recipe: options.RecipeAndOverrides = None,
    keep: Annotated[
        str | None,
        typer.Option(
            "--keep",
            help="How much to keep: a fraction (0.7), a count (5000), or several with commas; "
            "the first is exported, all are measured by retraining.",
        ),
    ] = None,
    train: options.Train = None,
    meta: options.MetaSet = None,
    test: options.Test = None,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    model: options.ModelName = None,
    baselines: options.Baselines = None,
    nproc: options.Processes = 1,
    output: options.Output = Path("runs/prune"),
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Keep the part of the training data that training needs.

    Without a recipe and without --train, runs the built-in demo (demo-vision).

    Examples:

        sama prune demo-vision --keep 0.7 --output runs/pruned

        sama prune cifar10-resnet18 data.path=cifar10 --keep 0.7,0.5,0.3 -o runs/cifar10

        sama prune --train photos.parquet --test test.parquet --image-column img
        --label-column label --model resnet18-cifar --keep 20000 -o runs/photos
    """
    from samacli.cli.tables import methods_table, noise_sentence
    from samacli.workflows.prune import prune as run

    settings = options.settings(context)
    if in_processes(settings.arguments, nproc):
        return
    name, overrides = options.split_arguments(recipe)
    values = options.data_values(
        train=train,
        meta=meta,
        test=test,
        text_column=text_column,
        image_column=image_column,
        label_column=label_column,
        model=model,
    )
    if settings.seed is not None:
        values["seed"] = settings.seed
    if keep is not None:
        values["prune.keep"] = _keeps(keep)
    chosen = options.baseline_names(baselines, list(get_args(PruneBaseline)))
    if chosen is not None:
        values["prune.baselines"] = chosen
    if name is None and train is None and not any(o.startswith("data.") for o in overrides):
        name = DEFAULT
    result = run(
        load_recipe(name, overrides, values),
        output,
        overwrite=overwrite,
        device=settings.device.value,
        progress=QuietProgress() if settings.quiet else ConsoleProgress(),
    )
    if json:
        print_json({"output": result.output, "suspects": result.suspects, **result.metrics})
        return
    seeds = len(result.metrics["seeds"])
    rows = {
        f"{method} {kept}".strip(): measured
        for method, by_keep in result.methods.items()
        for kept, measured in by_keep.items()
    }
    stdout.print(methods_table(f"test results after retraining, {seeds} seed(s)", rows))
    if result.noise is not None:
        stdout.print(noise_sentence(result.noise), highlight=False, soft_wrap=True)
    stdout.print(
        f"{result.output}: dataset/ ({result.kept:,} rows kept), scores.parquet, suspects.csv "
        f"({result.suspects:,} examples), model/, metrics.json, recipe.yaml, report.html",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


def _keeps(text: str) -> list[float]:
    try:
        keeps = [float(part) for part in text.split(",")]
    except ValueError:
        raise SamaError(
            f"--keep '{text}' is not a fraction such as 0.7, a count such as 5000, "
            "or several of them with commas"
        ) from None
    for keep in keeps:
        if not keep > 0 or (keep > 1 and keep != int(keep)):
            raise SamaError(
                f"--keep {keep:g} is neither a fraction (above 0, up to 1) nor a whole "
                "count of rows"
            )
    return keeps
