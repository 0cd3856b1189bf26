"""`sama reweight`"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from samacli.cli import options
from samacli.cli.launch import is_silent
from samacli.cli.opening import begin, how, names, open_recipe, split_arguments, tell, tell_plan
from samacli.errors import counted
from samacli.recipe.schema import ReweightBaseline
from samacli.store.output import RECIPE_FILE

if TYPE_CHECKING:
    from samacli.report.compare import Gain

RIVALS: tuple[str, ...] = get_args(ReweightBaseline)


def reweight(
    context: typer.Context,
    recipe: options.RecipeAndOverrides = None,
    train: options.Train = None,
    meta: options.MetaSet = None,
    test: options.Test = None,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    id_column: options.IdColumn = None,
    model: options.ModelName = None,
    correct: Annotated[
        bool | None,
        typer.Option(
            "--correct/--no-correct",
            help="Also learn a soft label for each example (reweight.correction).",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="A budget by name: fast, balanced or best (preset); wins over the recipe, "
            "KEY=VALUE over it.",
            show_default=False,
        ),
    ] = None,
    baselines: Annotated[
        str | None,
        typer.Option(
            "--baselines",
            help="What is run beside sama, in as many optimiser steps (a table tells the "
            "rows that each saw, and its seconds): none, all, or names with commas: "
            f"{', '.join(RIVALS)}.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    epochs: options.Epochs = None,
    lr: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    nproc: options.Processes = 1,
    track: options.Track = None,
    push_to_hub: options.PushToHub = None,
    config: options.Config = None,
    dry_run: options.DryRun = False,
    output: options.Output = Path("runs/reweight"),
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Learn how much each training example should count, from a small clean set.

    Without a recipe and without --train, runs the built-in demo (demo-text).

    Examples:

        sama reweight demo-text --output runs/demo

        sama reweight --train noisy.csv --meta clean.csv --test test.csv
        --model bert-base-uncased --text-column text --label-column label --output runs/mine

        sama reweight trec data.path=../shared/data/trec training.epochs=2 -o runs/trec

        sama reweight demo-text --baselines clean,elr,confident-learning -o runs/rivals

        sama reweight --config mine.yaml --dry-run
    """
    from samacli.cli.ending import ending
    from samacli.cli.tables import methods_table, rare_class_sentence
    from samacli.export.dataset import CLEAN_FILE
    from samacli.runs.reweight import reweight as run

    begin(context)
    loaded = open_recipe(
        context, default="demo-text", reweight={"baselines": names(baselines, RIVALS)}
    )
    if dry_run:
        tell_plan(context, "reweight", loaded)
        return
    result = run(loaded, output, **how(context))
    told = {"output": result.output, "suspects": result.suspects, **result.metrics}
    if is_silent():  # the one of several processes that has written speaks
        tell(context, told)
        return
    tables = [
        methods_table(f"test results over {counted(len(loaded.seeds), 'seed')}", result.methods),
        rare_class_sentence(result.metrics["class_rows"], result.methods),
    ]
    clean = "clean.parquet, " if (result.output / CLEAN_FILE).is_file() else ""
    since = _gain(context, result.output)
    if since is not None:
        told["gain"] = asdict(since)
        tables.append(since.sentence)
    files = (
        f"dataset/, {clean}scores.parquet, suspects.csv ({counted(result.suspects, 'example')}), "
        "model/, "
        "metrics.json, recipe.yaml, report.html"
    )
    tell(context, told, *ending(result.output, tables, files), task=loaded.task)


def _gain(context: typer.Context, output: Path) -> Gain | None:
    """Over the run whose recipe this one repeats with other clean rows, where it is one."""
    from samacli.report.compare import gain

    name = split_arguments(context.params["recipe"])[0] or context.params["config"]
    before = Path(name or "").expanduser()
    repeated = before.name == RECIPE_FILE and before.is_file() and context.params["meta"]
    if not repeated or before.resolve().parent == output.resolve():
        return None
    return gain(before.parent, output)
