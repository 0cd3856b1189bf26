"""`sama label`: rows whose true label should help a finished run most, in a file to fill in.

The run's data → features of the rows that nobody has checked → a choice of rows
(`samacli.review.choice`) → what the run's model says of these → the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from scipy.special import softmax
from torch import nn

from samacli.data import Split
from samacli.data.names import row_names
from samacli.errors import SamaError
from samacli.export.escape import one_line
from samacli.models import is_pretrained
from samacli.progress import Progress, Silent
from samacli.recipe import load_recipe
from samacli.report.finished import FinishedRun, lines
from samacli.report.reviewed import Form
from samacli.review.choice import choose
from samacli.review.images import kept_image
from samacli.review.session import again_with
from samacli.review.sheet import ENDINGS, FORMATS, Format, Question, write_questions
from samacli.runs.again import opened_again, recipe_again
from samacli.store.output import LABEL_FILE, RECIPE_FILE, REVIEWED_FILE, check_file
from samacli.training.experiment import BELIEF_LAYER, Experiment
from samacli.training.runtime import DeviceName

# Looked at; of more rows, so many at random.
_MOST = 20_000
_NAME = 40  # characters of a class in a sentence


@dataclass(frozen=True)
class Labelled:
    """What `label` wrote.

    files: the file of rows first. rows: asked about, in the file's order. free: rows that could be
    asked about; looked_at: those that were considered. by_given, by_suggested: asked rows of each
    class. next: the command that takes the file back.
    """

    files: list[Path]
    questions: list[Question]
    free: int
    looked_at: int
    by_given: dict[str, int]
    by_suggested: dict[str, int]
    next: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def label(
    directory: Path,
    *,
    budget: int = 50,
    kind: Format = "csv",
    output: Path | None = None,
    overwrite: bool = False,
    device: DeviceName = "auto",
    progress: Progress | None = None,
) -> Labelled:
    """Choose `budget` rows of a finished run to be labelled by a person, and write them.

    Not rows that the clean set has or that were reviewed already, nor two copies of one text or
    image. The run's data are read again, from where its recipe says.

    output: the file; None: `label.csv` or `label.json` in the run's directory.

    Raises:
        SamaError: the directory holds no finished run with a model, its data are not there any more
            or have changed, there are fewer rows to ask about, or the file is there already or
            cannot be written.
    """
    if kind not in FORMATS:
        raise SamaError(f"--format '{kind}' is none of {', '.join(FORMATS)}")
    if budget < 1:
        raise SamaError(f"--budget {budget} asks for no row; ask for 1 or more")
    progress = progress or Silent()
    run = FinishedRun.read(directory)
    file = output or (directory / LABEL_FILE).with_suffix(ENDINGS[kind])
    check_file("--output", file)
    if file.exists() and not overwrite:
        raise SamaError(
            f"--output '{file}' is there already, maybe with labels in it; name another file, or "
            "add --overwrite to replace it"
        )
    recipe = recipe_again(run, "which tells what is not known yet; run it again")
    experiment = opened_again(run, recipe, device, progress)
    free, known = _rows(run, experiment)
    if budget > len(free):
        raise SamaError(
            f"--budget {budget}: only {len(free):,} of {len(run.scores):,} rows can be asked about "
            "(the others are in the clean set, were reviewed, or are copies); ask for fewer"
        )
    rows = free
    if len(rows) > (most := max(_MOST, budget)):
        rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    choice = choose(*_features(run, experiment, rows, known), budget)
    places = rows[choice.rows]
    model = experiment.new_model(recipe.seed).eval()
    logits = experiment.predict(model, experiment.train, "what the model says of them", rows=places)
    splits, classes = experiment.splits, experiment.splits.classes
    names = row_names(splits.train, splits.columns, splits.task)
    contents = _contents(run, splits.train, places, file)
    questions = [
        Question(
            row=int(run.scores.index[place]),
            name="" if names is None else names[place] or "",
            content=content,
            given=run.scores.given[place] or "",
            suggested=run.scores.suggested[place],
            probability=float(p[classes.index(run.scores.suggested[place])]),
            why=f"{_doubt(run.scores.given[place], p, classes)}; {_alike(like, len(rows))}.",
        )
        for place, content, p, like in zip(
            places.tolist(),
            contents,
            softmax(logits.astype(np.float64), axis=1),
            choice.like.tolist(),
            strict=True,
        )
    ]
    files = write_questions(
        file, kind, questions, Form.of(run), classes, images=run.image_column is not None
    )
    return Labelled(
        files=files,
        questions=questions,
        free=len(free),
        looked_at=len(rows),
        by_given=dict(Counter(one.given for one in questions).most_common()),
        by_suggested=dict(Counter(one.suggested for one in questions).most_common()),
        next=again_with(run, file, "labelled"),
    )


def _rows(run: FinishedRun, experiment: Experiment) -> tuple[np.ndarray, np.ndarray]:
    """Training rows that may be asked about, and those that were reviewed already; ascending, both,
    the first of each text or image, and none that the clean set has."""
    splits = experiment.splits
    content = splits.train.content
    done = np.zeros(len(content), dtype=bool)
    reviewed = run.directory / REVIEWED_FILE
    if reviewed.is_file():
        column = Form.of(run).index
        decided = {line.get(column) for line in lines(reviewed, escaped=False)}
        done = np.array([str(row) in decided for row in splits.train.index.tolist()], dtype=bool)
    _, first = np.unique(content, return_index=True)
    first = np.sort(first[splits.clean_twins[first] < 0])
    known = np.isin(content[first], content[done])
    return first[~known], first[known]


def _features(
    run: FinishedRun, experiment: Experiment, rows: np.ndarray, reviewed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Features of the training `rows` (n, f), and of the rows whose label is known (m, f): the
    clean ones and the `reviewed`."""
    model, train, clean = _representation(run, experiment), experiment.train, experiment.meta
    both = np.union1d(rows, reviewed)
    table = experiment.embed(model, train, "how alike they are", layer=BELIEF_LAYER, rows=both)
    known = table[np.searchsorted(both, reviewed)]
    if clean is not None:
        found = experiment.embed(model, clean, "the clean rows beside them", layer=BELIEF_LAYER)
        known = np.concatenate([found, known])
    return table[np.searchsorted(both, rows)], known


def _representation(run: FinishedRun, experiment: Experiment) -> nn.Module:
    """The pretrained model that the run began with: trained, it would draw classes together, wrong
    labels among them. Where there was none, or it is out of reach, the trained one."""
    before = load_recipe(str(run.directory / RECIPE_FILE)).model
    recipe = experiment.recipe
    if is_pretrained(before):
        model = before.model_copy(update={"cache_frozen": False})
        began = replace(experiment, recipe=recipe.model_copy(update={"model": model}))
        try:
            return began.new_model(recipe.seed).eval()
        except SamaError as error:
            experiment.progress.warn(f"rows are compared by the trained model's features: {error}")
    return experiment.new_model(recipe.seed).eval()


def _contents(
    run: FinishedRun, train: Split, places: np.ndarray, file: Path
) -> list[tuple[str, ...]]:
    """The cells of each row's texts, or its image's path from the file's folder on."""
    if run.image_column is None:
        shown = train.rows.select_columns(run.text_columns).select(places)
        return [tuple(row[name] or "" for name in run.text_columns) for row in shown]
    column = run.image_column
    raw = train.rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    folder = file.parent.resolve()
    paths = []
    for place in places.tolist():
        image = raw[place][column]
        path = Path(image.get("path") or "").resolve()
        if path.is_file() and path.is_relative_to(folder):
            paths.append(path.relative_to(folder).as_posix())
        else:
            paths.append(kept_image(image, int(train.index[place]), file.with_suffix("")))
    return [(path,) for path in paths]


def _doubt(given: str | None, p: np.ndarray, classes: Sequence[str]) -> str:
    """What the model has to say of a row's label; p: its probabilities (classes,)."""
    first, second = (
        f"{one_line(classes[c], _NAME)} ({p[c]:.2f})" for c in np.argsort(-p, kind="stable")[:2]
    )
    if given is None:
        return f"It has no label; the model says {first}, else {second}"
    if given == classes[int(p.argmax())]:
        return f"The model says {first} as given, else {second}"
    own = p[classes.index(given)]
    return f"The model says {first}, not {one_line(given, _NAME)} ({own:.2f}) as given"


def _alike(like: int, rows: int) -> str:
    others = "any other row of this list or of the clean set"
    if like == 1:
        return f"no other row is nearer to it than to {others}"
    return f"{like:,} of {rows:,} rows are nearer to it than to {others}"
