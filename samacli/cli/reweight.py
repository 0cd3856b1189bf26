"""`sama reweight`"""

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
from samacli.recipe.schema import ReweightBaseline, Tracker

DEFAULT = "demo-text"
RIVALS: list[str] = list(get_args(ReweightBaseline))


def reweight(
    context: typer.Context,
    recipe: options.RecipeAndOverrides = None,
    train: options.Train = None,
    meta: options.MetaSet = None,
    test: options.Test = None,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    model: options.ModelName = None,
    correction: Annotated[
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
            help="What is run beside sama, on the same budget: none, all, or names with commas: "
            f"{', '.join(RIVALS)}.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    nproc: options.Processes = 1,
    track: options.Track = None,
    push_to_hub: options.PushToHub = None,
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
    """
    from samacli.cli.tables import methods_table, noise_sentence, rare_class_sentence
    from samacli.export.hub import check_hub, push_run
    from samacli.runs.reweight import reweight as run

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
    if preset is not None:
        values["preset"] = preset
    if correction is not None:
        values["reweight.correction"] = correction
    chosen = options.baseline_names(baselines, RIVALS)
    if chosen is not None:
        values["reweight.baselines"] = chosen
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
    stdout.print(methods_table(f"test results over {seeds} seed(s)", result.methods))
    if result.noise is not None:
        stdout.print(noise_sentence(result.noise), highlight=False, soft_wrap=True)
    rare = rare_class_sentence(result.metrics["class_rows"], result.methods)
    if rare is not None:
        stdout.print(rare, highlight=False, soft_wrap=True, markup=False)
    stdout.print(
        f"{result.output}: dataset/, scores.parquet, suspects.csv ({result.suspects:,} examples), "
        "model/, metrics.json, recipe.yaml, report.html",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    if push_to is not None:
        pushed = ", ".join(push(push_to))
        stdout.print(f"pushed, private: {pushed}", highlight=False, soft_wrap=True, markup=False)
