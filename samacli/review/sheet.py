"""Rows that a person is asked to label, as a file of their own tool: CSV, Argilla, Label Studio.

Formats: a record of Argilla 2 as `dataset.records.from_json` takes it
(https://docs.argilla.io/latest/how_to_guides/import_export), and tasks of Label Studio as "basic"
JSON (https://labelstud.io/guide/tasks), whose CSV export has a column for each key of `data` and
one, called as the question is, for the answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from samacli.data.pool import GIVEN_COLUMN
from samacli.data.sheet import SUGGESTED_COLUMN, WHY_COLUMN, csv_cell, csv_text
from samacli.export.escape import write_csv
from samacli.report.reviewed import Form
from samacli.store.output import written

Format = Literal["csv", "argilla", "label-studio"]
FORMATS: tuple[str, ...] = get_args(Format)
ENDINGS = {"csv": ".csv", "argilla": ".json", "label-studio": ".json"}
# Where Label Studio finds an image that lies on its own disk.
URL_COLUMN, _LOCAL = "sama_url", "/data/local-files/?d="


@dataclass(frozen=True)
class Question:
    """A row that a person is asked about.

    row: position in the input. name: what it is called there, or empty. content: the cells of its
    text columns, or the path of its image, from the file's folder on. given: its label, or empty.
    probability: of the suggested label, as the model has it.
    """

    row: int
    name: str
    content: tuple[str, ...]
    given: str
    suggested: str
    probability: float
    why: str


def write_questions(
    file: Path,
    kind: Format,
    questions: Sequence[Question],
    form: Form,
    classes: Sequence[str],
    *,
    images: bool,
) -> list[Path]:
    """Write the file, whole or not at all; returns what was written: for Label Studio also the
    labelling interface, `FILE.xml`.

    form: names of the columns. classes: what can be answered. images: what `content` holds.
    """
    if kind == "csv":
        header = [*form.header, SUGGESTED_COLUMN, WHY_COLUMN]
        rows = [
            [
                one.row,
                *([] if form.name is None else [one.name]),
                *one.content,
                "",  # the label, which a person writes
                one.given,
                one.suggested,
                one.why,
            ]
            for one in questions
        ]
        with written(file) as stage:
            # With the mark that tells a spreadsheet that it is UTF-8.
            write_csv(stage, header, rows, encoding="utf-8-sig")
        return [file]
    if kind == "argilla":
        return [_write_json(file, [_record(one, form) for one in questions])]
    interface = file.with_suffix(".xml")
    with written(interface) as stage:
        stage.write_text(_interface(form, classes, images=images), encoding="utf-8")
    return [_write_json(file, [_task(one, form, images=images) for one in questions]), interface]


def _write_json(file: Path, content: Any) -> Path:
    with written(file) as stage:
        stage.write_text(json.dumps(content, ensure_ascii=True, indent=1) + "\n", encoding="utf-8")
    return file


def _kept(text: str) -> str:
    """The text, with a quote more where `samacli.data.sheet.as_data` would take one off."""
    return text if csv_text(text) == text else str(csv_cell(text))


def _content(one: Question, form: Form) -> dict[str, str]:
    return dict(zip(form.content, map(_kept, one.content), strict=True))


def _record(one: Question, form: Form) -> dict[str, Any]:
    known = {form.index: one.row} | ({} if form.name is None else {form.name: one.name})
    suggestion = {"value": one.suggested, "score": round(one.probability, 4), "agent": "sama"}
    return {
        "id": str(one.row),
        "fields": {
            **_content(one, form),
            GIVEN_COLUMN: _kept(one.given),
            WHY_COLUMN: one.why,
        },
        "metadata": known,
        "suggestions": {form.label: suggestion},
        "responses": {},
        "vectors": {},
    }


def _task(one: Question, form: Form, *, images: bool) -> dict[str, Any]:
    data: dict[str, Any] = {form.index: one.row}
    if form.name is not None:
        data[form.name] = one.name
    data |= _content(one, form)
    if images:
        data[URL_COLUMN] = _LOCAL + quote(one.content[0])
    data |= {GIVEN_COLUMN: _kept(one.given), SUGGESTED_COLUMN: one.suggested, WHY_COLUMN: one.why}
    return {"data": data}


def _interface(form: Form, classes: Sequence[str], *, images: bool) -> str:
    """What Label Studio asks with ("Labeling Interface", "Code")."""
    shown = [
        f"  <Image name={quoteattr(name)} value={quoteattr(f'${URL_COLUMN}')}/>"
        if images
        else f"  <Text name={quoteattr(name)} value={quoteattr(f'${name}')}/>"
        for name in form.content
    ]
    facts = [
        ("given", GIVEN_COLUMN),
        ("suggested", SUGGESTED_COLUMN),
        ("why", WHY_COLUMN),
    ]
    return "\n".join(
        [
            "<View>",
            *shown,
            *(f'  <Header size="6" value="{word}: ${column}"/>' for word, column in facts),
            f"  <Choices name={quoteattr(form.label)} toName={quoteattr(form.content[0])} "
            'choice="single" showInline="true">',
            *(f"    <Choice value={quoteattr(_kept(name))}/>" for name in classes),
            "  </Choices>",
            "</View>",
            "",
        ]
    )
