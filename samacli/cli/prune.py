"""`sama prune`"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from samacli.cli import options
from samacli.cli.launch import is_silent
from samacli.cli.opening import begin, how, keeps, names, open_recipe, tell, tell_plan
from samacli.errors import counted
from samacli.recipe.schema import PruneBaseline, PruneScore

if TYPE_CHECKING:
    from samacli.export.results import Results


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
    id_column: options.IdColumn = None,
    model: options.ModelName = None,
    scores: Annotated[
        str | None,
        typer.Option(
            "--scores",
            help="Other scores to write, with commas: el2n, grand, aum, … or all (prune.scores).",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Retrain on every subset of every score, for as many steps and again for as many "
            "epochs as on all rows, over the seeds, and recommend the smallest that is shown to "
            "lose less than prune.margin.",
        ),
    ] = False,
    baselines: options.Baselines = None,
    epochs: options.Epochs = None,
    lr: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    nproc: options.Processes = 1,
    track: options.Track = None,
    push_to_hub: options.PushToHub = None,
    config: options.Config = None,
    dry_run: options.DryRun = False,
    output: options.Output = Path("runs/prune"),
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Keep the part of the training data that training needs.

    Without a recipe and without --train, runs the built-in demo (demo-vision).

    Examples:

        sama prune demo-vision --keep 0.7 --output runs/pruned

        sama prune cifar10-resnet18 data.path=cifar10 --keep 0.7,0.5,0.3 -o runs/cifar10

        sama prune --train photos.parquet --test test.parquet --image-column img
        --label-column label --model resnet18-cifar --keep 20000 -o runs/photos

        sama prune demo-vision --keep 0.9,0.7,0.5,0.3 --verify -o runs/curve
    """
    from samacli.cli.ending import ending
    from samacli.cli.tables import methods_table
    from samacli.runs.prune import prune as run

    begin(context)
    own = {
        "keep": None if keep is None else keeps(keep),
        "scores": names(scores, get_args(PruneScore)),
        "verify": verify or None,
        "baselines": names(baselines, get_args(PruneBaseline)),
    }
    loaded = open_recipe(context, default="demo-vision", prune=own)
    if dry_run:
        tell_plan(context, "prune", loaded)
        return
    result = run(loaded, output, **how(context))
    title = f"test results after retraining, {counted(len(loaded.seeds), 'seed')}"
    curve = "curve.csv, curve.md, curve.png, " if result.recommended else ""
    by_epochs = None
    if result.by_epochs:
        by_epochs = methods_table(f"{title}, same epochs", _lines(result.by_epochs))
        title += ", same steps"
    told = {"output": result.output, "suspects": result.suspects, **result.metrics}
    if is_silent():  # the one of several processes that has written speaks
        tell(context, told)
        return
    tables = [methods_table(title, _lines(result.methods)), by_epochs]
    files = (
        f"dataset/ ({counted(result.kept, 'row')} kept), keep.txt, scores.parquet, suspects.csv "
        f"({counted(result.suspects, 'example')}), {result.examples}, model/, {curve}metrics.json, "
        "recipe.yaml, report.html"
    )
    tell(context, told, *ending(result.output, tables, files), task=loaded.task)


def _lines(methods: Mapping[str, Mapping[str, Results]]) -> dict[str, Results]:
    """Of each method at each keep, by both names."""
    return {
        f"{method} {kept}".strip(): measured
        for method, by_keep in methods.items()
        for kept, measured in by_keep.items()
    }
