"""`sama check`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from samacli.cli import options
from samacli.cli.opening import by_option, progress, recipe_values, tell
from samacli.recipe import load_recipe

if TYPE_CHECKING:
    from samacli.runs.check import Checked


def check(
    context: typer.Context,
    train: Annotated[str, typer.Argument(metavar="TRAIN", help="Training file, folder or split.")],
    meta: Annotated[
        str | None, typer.Argument(metavar="[META]", help="Small clean set.", show_default=False)
    ] = None,
    test: Annotated[
        str | None, typer.Argument(metavar="[TEST]", help="Test set.", show_default=False)
    ] = None,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Hub name or path of the model whose tokens texts are measured by, in place of "
            "words (model.name).",
            show_default=False,
        ),
    ] = None,
    max_length: options.MaxLength = None,
    json: options.Json = False,
) -> None:
    """Look at data before anything is trained on them: columns, classes, copies, lengths.

    And ahead: what each auto of a recipe would be, and about how long sama reweight would take, by
    a step of the model that is tried where it is at hand. Columns that are not named are guessed,
    and said. Ends with exit code 1 where there is a problem, something that would stop a run or
    spoil its result; remarks are no problems.

    Examples:

        sama check noisy.csv clean.csv test.csv

        sama check photos/ --json
    """
    from samacli.runs.check import check as run

    recipe = load_recipe(None, (), recipe_values(context))
    columns = {"text": text_column, "image": image_column, "label": label_column}
    given = {name: column for name, column in columns.items() if column is not None}
    found = run(
        recipe,
        given,
        tokens=model is not None,
        device=options.settings(context).device.value,
        progress=progress(context),
    )
    _tell(context, found)
    if found.problems:
        raise typer.Exit(1)


def _tell(context: typer.Context, found: Checked) -> None:
    from samacli.cli.tables import auto_table, class_rows_table, inputs_table

    columns = ", ".join(
        f"{name} '{column}'{' (guessed)' if name in found.guessed else ''}"
        for name, column in found.columns.items()
    )
    # Who types no keys is told of options, those of a run.
    problems = [by_option(problem, ["--train"]) for problem in found.problems]
    remarks = [by_option(remark, ["--train"]) for remark in found.remarks]
    heading = {0: "no problem found", 1: "1 problem"}
    tell(
        context,
        {**found.as_dict(), "problems": problems, "remarks": remarks},
        f"{found.task}: {columns}",
        class_rows_table(found.classes) if found.classes else None,
        inputs_table(found.texts, found.images) if found.rows else None,
        *(() if found.ahead is None else (auto_table(found.ahead.auto), found.ahead.sentence)),
        *(f"remark: {remark}" for remark in remarks),
        *(f"problem: {problem}" for problem in problems),
        heading.get(len(problems), f"{len(problems)} problems"),
    )
