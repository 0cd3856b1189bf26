"""`sama evaluate`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samacli.cli import options
from samacli.cli.opening import progress, tell


def evaluate(
    context: typer.Context,
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_DIR",
            help="A saved classifier, or a run that holds one.",
            callback=options.home,
        ),
    ],
    data: Annotated[str, typer.Option("--data", help="File or directory with labelled examples.")],
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1)] = 64,
    json: options.Json = False,
) -> None:
    """Accuracy, macro-F1 and a table by class of a saved model on labelled data.

    Example:

        sama evaluate runs/demo/model --data test.csv --text-column text --label-column label
    """
    from samacli.cli.tables import classes_table
    from samacli.runs.evaluate import evaluate as run

    result = run(
        model,
        data,
        text_column=text_column,
        image_column=image_column,
        label_column=label_column,
        batch_size=batch_size,
        device=options.settings(context).device.value,
        progress=progress(context),
    )
    tell(
        context,
        result.as_dict(),
        classes_table(result),
        f"accuracy {result.accuracy:.4f}, macro-F1 {result.macro_f1:.4f}",
    )
