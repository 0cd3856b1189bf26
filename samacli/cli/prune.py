"""`sama prune`"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated, get_args

import typer

import samacli
from samacli.cli import options
from samacli.cli.console import ConsoleProgress, QuietProgress, print_json, stdout
from samacli.cli.launch import in_processes, is_silent
from samacli.recipe import load_recipe
from samacli.recipe.schema import PruneBaseline, PruneScore, Tracker

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
            "epochs as on all rows, over the seeds, and recommend the smallest that loses nothing.",
        ),
    ] = False,
    baselines: options.Baselines = None,
    nproc: options.Processes = 1,
    track: options.Track = None,
    push_to_hub: options.PushToHub = None,
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
    from samacli.cli.tables import methods_table, noise_sentence
    from samacli.export.hub import check_hub, push_run
    from samacli.runs.prune import prune as run

    settings = options.settings(context)
    if push_to_hub is not None:
        check_hub(push_to_hub)
    if in_processes(settings.arguments, nproc, output):
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
        values["prune.keep"] = options.keeps(keep)
    if scores is not None:
        values["prune.scores"] = options.baseline_names(scores, list(get_args(PruneScore)))
    if verify:
        values["prune.verify"] = True
    chosen = options.baseline_names(baselines, list(get_args(PruneBaseline)))
    if chosen is not None:
        values["prune.baselines"] = chosen
    if track is not None:
        values["track"] = options.baseline_names(track, list(get_args(Tracker)))
    if name is None and train is None and not any(o.startswith("data.") for o in overrides):
        name = DEFAULT
    loaded = load_recipe(name, overrides, values)
    result = run(
        loaded,
        output,
        overwrite=overwrite,
        resume=resume,
        device=settings.device.value,
        progress=QuietProgress() if settings.quiet else ConsoleProgress(),
    )
    push_to = None if is_silent() else push_to_hub
    push = functools.partial(push_run, result.output, task=loaded.task, version=samacli.__version__)
    if json:
        told = {"output": result.output, "suspects": result.suspects, **result.metrics}
        print_json(told if push_to is None else {**told, "pushed": push(push_to)})
        return
    seeds = len(result.metrics["seeds"])
    rows = {
        f"{method} {kept}".strip(): measured
        for method, by_keep in result.methods.items()
        for kept, measured in by_keep.items()
    }
    title = f"test results after retraining, {seeds} seed(s)"
    stdout.print(methods_table(f"{title}, same steps" if result.by_epochs else title, rows))
    if result.by_epochs:
        short = {
            f"{method} {kept}": measured
            for method, by_keep in result.by_epochs.items()
            for kept, measured in by_keep.items()
        }
        stdout.print(methods_table(f"{title}, same epochs", short))
    for sentence in result.recommended:
        stdout.print(sentence, highlight=False, soft_wrap=True, markup=False)
    if result.noise is not None:
        stdout.print(noise_sentence(result.noise), highlight=False, soft_wrap=True)
    curve = "curve.csv, curve.md, curve.png, " if result.recommended else ""
    stdout.print(
        f"{result.output}: dataset/ ({result.kept:,} rows kept), keep.txt, scores.parquet, "
        f"suspects.csv ({result.suspects:,} examples), {result.examples}, model/, "
        f"{curve}metrics.json, recipe.yaml, report.html",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    if push_to is not None:
        pushed = ", ".join(push(push_to))
        stdout.print(f"pushed, private: {pushed}", highlight=False, soft_wrap=True, markup=False)
