"""`sama train`"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from samacli.cli import options
from samacli.cli.opening import begin, how, recipe_values, tell
from samacli.errors import counted


def train(
    context: typer.Context,
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET_DIR",
            help="An exported dataset, or a run that holds one.",
            callback=options.home,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE …]", help="Recipe values.", show_default=False),
    ] = None,
    model: options.ModelName = None,
    test: options.Test = None,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    weights: Annotated[
        bool | None,
        typer.Option(
            "--weights/--ignore-weights",
            help="Whether each example counts its sama_weight or once. By default it counts its "
            "weight, but what sama prune kept counts once, as it was measured.",
            show_default=False,
        ),
    ] = None,
    ignore_clean: Annotated[
        bool,
        typer.Option(
            "--ignore-clean",
            help="Leave out the run's clean rows (clean.parquet), which else have their share.",
        ),
    ] = False,
    epochs: options.Epochs = None,
    lr: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    nproc: options.Processes = 1,
    output: options.Output = Path("runs/train"),
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Fine-tune plainly on an exported dataset, each example counting its sama_weight.

    What sama prune kept counts once each, as the run measured it.

    The run's clean rows, in clean.parquet beside the dataset, are trained on too, in the share that
    they had in the run: the figure that the report calls "export" is of this.

    Columns, model and training settings come from the run's recipe.yaml where it lies beside the
    dataset; labels from sama_label where labels were corrected.

    Example:

        sama train runs/demo/dataset --model minilm --test test.csv --output runs/final
    """
    from samacli.cli.tables import methods_table
    from samacli.runs.train import train as run

    begin(context)
    values = recipe_values(context)
    result = run(
        dataset,
        output,
        overrides or [],
        values,
        use_weights=weights,
        use_clean=not ignore_clean,
        **how(context),
    )
    tell(
        context,
        {"output": result.output, "rows": result.rows, **result.results.as_dict()},
        methods_table(f"trained on {counted(result.rows, 'row')}", {result.name: result.results}),
        f"{result.output}: model/, metrics.json, recipe.yaml",
        f"next: sama evaluate {shlex.quote(str(result.output))} --data FILE",
    )
