"""`reviewed.csv`: saved at every decision, gone on with, and read back as the clean set it is."""

from __future__ import annotations

import contextlib
import csv
import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from samacli.data import load_splits
from samacli.errors import SamaError
from samacli.export.escape import write_csv as write_escaped
from samacli.recipe import load_recipe
from samacli.report.reviewed import GIVEN_COLUMN
from samacli.review import opened
from samacli.review import session as session_module
from tests.conftest import sentences, write_csv
from tests.report.runs import pruning, write_run
from tests.report.test_report import HOSTILE

Run = Callable[..., tuple[int, str, str]]
TEXTS = [text for text in HOSTILE if "\ud83d" not in text]
QUICK = ["training.steps=2", "training.precision=fp32", "training.batch_size=8"]


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Classes sport, money, film; suspects are rows 2, 8, 14, … given money, suggested film."""
    return write_run(tmp_path / "run", texts=[*TEXTS, "\r", "two\nlines", " spaces "])


def test_a_decision_is_a_clean_row_as_the_data_have_it(run: Path) -> None:
    with opened(run, 1000) as session:
        assert session.classes == ["sport", "money", "film"]
        first, second, third = session.shown[:3]
        session.decide(first.row, 2)
        session.decide(second.row, 1)
        session.decide(third.row, 0)
        counts = session.counts
        assert (counts.accepted, counts.corrected, counts.kept) == (1, 1, 1)
        assert counts.decided == 3
        assert counts.suspects == 20
        for one in session.shown[3:]:
            session.decide(one.row, 2)
    lines = table(run / "reviewed.csv")
    assert list(lines[0]) == ["index", "text", "label", GIVEN_COLUMN]
    assert [line["label"] for line in lines] == ["film", "money", "sport"] + ["film"] * 17
    of = {2 * i: text for i, text in enumerate(_column(run, "text"))}
    for line in lines:
        assert line["text"] == of[int(line["index"])], "not escaped for spreadsheets, nor cut"
        assert line[GIVEN_COLUMN] == "money"
    assert any(line["text"].startswith("=") for line in lines), "else nothing was tested"


def _column(run: Path, name: str) -> list[Any]:
    files = sorted((run / "dataset").glob("*.parquet"))
    return [value for file in files for value in pq.read_table(file)[name].to_pylist()]


def test_one_goes_on_where_one_stopped(run: Path) -> None:
    with opened(run, 1000) as session:
        rows = [one.row for one in session.shown]
        for row in rows[:4]:
            session.decide(row, 2)
        session.decide(rows[1], None)
        session.decide(rows[0], 0)
    assert [int(line["index"]) for line in table(run / "reviewed.csv")] == [
        rows[2], rows[3], rows[0],
    ], "the last decided is the last, so that a later undo begins with it"  # fmt: skip
    with opened(run, 2) as session:
        assert list(session.decided) == [rows[2], rows[3], rows[0]]
        assert session.page_data()["decided"] == [(rows[0], 0)], "of those that are asked about"
        assert session.counts.suspects == 2
        assert session.counts.decided == 1
        session.decide(rows[1], 1)
        assert session.suspect(rows[5]) is None
    assert len(table(run / "reviewed.csv")) == 4, "what --limit leaves out is not lost"


def test_the_next_run_keeps_the_clean_sets_of_the_first(run: Path, tmp_path: Path) -> None:
    """Files, as often as they are named; not a split's rows that were taken out by number."""
    clean = write_csv(tmp_path / "clean.csv", sentences(4, seed=1))
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    reviewed = ["--meta", str(run / "reviewed.csv")]
    for data, expected in (
        ({"meta": str(clean)}, ["--meta", str(clean), *reviewed]),
        ({"meta": [str(clean), reviewed[1]]}, ["--meta", str(clean), *reviewed]),
        ({"meta": "train", "meta_per_class": 5}, [*reviewed, "data.meta_per_class=null"]),
        ({"meta": None}, reviewed),
        ({"meta": "the caller's rows"}, reviewed),
    ):
        (run / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "data": data}))
        with opened(run, 10) as session:
            words = shlex.split(session.next_command)
        assert words[3:-2] == expected


def test_a_table_of_nothing_is_a_table(run: Path) -> None:
    with opened(run, 1000) as session:
        session.decide(session.shown[0].row, 2)
        session.decide(session.shown[0].row, None)
    assert table(run / "reviewed.csv") == []
    with opened(run, 1000) as session:
        assert session.decided == {}


def test_a_file_that_a_spreadsheet_saved_is_read(run: Path) -> None:
    with opened(run, 1000) as session:
        row = session.shown[0].row
        session.decide(row, 2)
    file = run / "reviewed.csv"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"film", b"sport"))
    with opened(run, 1000) as session:
        assert session.decided == {row: 0}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("index,", "number,", "no column 'index'"),
        (",film,", ",flim,", "the label 'flim', no class here"),
        (",film,money", ",film,sport", "none of the run's suspects"),
    ],
)
def test_a_file_of_something_else_is_refused_and_left(
    run: Path, old: str, new: str, said: str
) -> None:
    with opened(run, 1000) as session:
        session.decide(session.shown[0].row, 2)
    file = run / "reviewed.csv"
    text = file.read_text(encoding="utf-8").replace(old, new)
    file.write_text(text, encoding="utf-8", newline="")
    with pytest.raises(SamaError, match=said), opened(run, 1000):
        pass
    assert file.read_text(encoding="utf-8") == text
    assert not list(run.glob(".*lock")), "the next try is free"


def test_what_cannot_be_saved_is_not_decided(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(run, 1000) as session:
        first, second = session.shown[:2]
        session.decide(first.row, 2)
        before = (run / "reviewed.csv").read_bytes()

        @contextlib.contextmanager
        def full(_: Path) -> Any:
            raise OSError(28, "No space left on device")
            yield

        monkeypatch.setattr(session_module, "written", full)
        with pytest.raises(SamaError, match=r"cannot be written: No space left"):
            session.decide(second.row, 2)
        assert session.decided == {first.row: 2}
        assert (run / "reviewed.csv").read_bytes() == before


def test_a_run_that_was_replaced_meanwhile_gets_no_labels_of_the_other(run: Path) -> None:
    with opened(run, 1000) as session:
        row = session.shown[0].row
        run.rename(run.with_name("old"))
        write_run(run)
        with pytest.raises(SamaError, match="has been replaced by another run"):
            session.decide(row, 2)
    assert not (run / "reviewed.csv").exists()


def test_nobody_else_reviews_it_meanwhile(run: Path) -> None:
    other = pytest.raises(SamaError, match="under review by another")
    with opened(run, 1000), other, opened(run, 1000):
        pass
    with opened(run, 1000):
        pass


def test_what_is_no_run_or_has_no_suspects_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SamaError, match="there is no directory"), opened(tmp_path / "no", 1):
        pass
    with pytest.raises(SamaError, match=r"holds no metrics\.json"), opened(tmp_path, 1):
        pass
    header = (run / "suspects.csv").read_text().splitlines()[0]
    (run / "suspects.csv").write_text(header + "\n")
    with pytest.raises(SamaError, match="has no suspects"), opened(run, 1):
        pass


# Images


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A pruned run; its suspects lie in the run, elsewhere, in `dataset/` alone, and nowhere."""
    run = write_run(tmp_path / "run", workflow="prune", images=True, methods=pruning())
    lines = table(run / "suspects.csv")[:4]
    scores = pq.read_table(run / "scores.parquet").to_pylist()
    kept = {score["index"] for score in scores if score["keep"]}
    (tmp_path / "album").mkdir()
    picture = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    picture.save(tmp_path / "album" / "it is.jpg")
    lines[1]["image"] = str(tmp_path / "album" / "it is.jpg")
    lines[2] |= {"image": "", "index": str(min(kept)), "given_label": "sport"}
    (run / lines[3]["image"]).unlink()
    write_escaped(run / "suspects.csv", list(lines[0]), [list(line.values()) for line in lines])
    return run


def test_images_lie_in_the_run_whatever_becomes_of_the_album(photos: Path) -> None:
    with opened(photos, 1000) as session:
        inside, outside, embedded, gone = session.shown
        for one in (inside, outside, embedded):
            assert session.image(one)[1].startswith((b"\x89PNG", b"\xff\xd8"))
            session.decide(one.row, 0)
        assert session.image(gone) == ("", b"")
        with pytest.raises(SamaError, match=f"image of row {gone.row} is not there any more"):
            session.decide(gone.row, 0)
        # The others are saved all the same.
        session.decide(inside.row, 1)
    album = photos.parent / "album"
    lines = {line["index"]: line for line in table(photos / "reviewed.csv")}
    paths = [lines[str(one.row)]["image"] for one in (inside, outside, embedded)]
    assert paths[:2] == [inside.content[0], f"reviewed/{outside.row}.jpg"]
    assert (photos / paths[1]).read_bytes() == (album / "it is.jpg").read_bytes()
    assert Image.open(photos / paths[2]).size == (8, 8)
    shutil.rmtree(album)
    recipe = load_recipe(
        None,
        ["task=image-classification"],
        {"data.train": str(photos / "reviewed.csv"), "data.columns.image": "image"},
    )
    assert len(load_splits(recipe.data, recipe.task).train) == 3, "confined to the run's folder"


# Back into training

LABELS: dict[str, tuple[Any, Sequence[Any]]] = {
    "text": (datasets.Value("string"), ["=a", "b, c", "01"]),
    "numbers": (datasets.Value("int64"), [3, 20, 100]),
    "numbers with -1": (datasets.Value("int64"), [-1, 0, 1]),
    "floats": (datasets.Value("float64"), [1.0, 2.0, 3.0]),
    "booleans": (datasets.Value("bool"), [False, True]),
    "names": (datasets.ClassLabel(names=["World", "Sports", "Tech"]), [0, 1, 2]),
    "numbers that name other numbers": (datasets.ClassLabel(names=["1", "0", "x"]), [0, 1, 2]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_type_come_back_as_the_classes_they_are(kind: str, tmp_path: Path) -> None:
    feature, values = LABELS[kind]
    count = 30
    labels = [values[i % len(values)] for i in range(count)]
    rows = datasets.Dataset.from_dict(
        {"text": [f"text {i}" for i in range(count)], "label": labels},
        features=datasets.Features({"text": datasets.Value("string"), "label": feature}),
    )
    rows.to_parquet(tmp_path / "train.parquet")
    recipe = load_recipe(
        None, ["data.minus_one=class"], {"data.train": str(tmp_path / "train.parquet")}
    )
    alone = load_splits(recipe.data, recipe.task)
    run = write_run(tmp_path / "run", classes=alone.classes, rows=count,
                    texts=rows["text"][:])  # fmt: skip
    rng = np.random.default_rng(0)
    with opened(run, 1000) as session:
        chosen = {one.row: int(rng.integers(len(alone.classes))) for one in session.shown[:6]}
        chosen[session.shown[7].row], chosen[session.shown[8].row] = 0, 1
        for row, label in chosen.items():
            session.decide(row, label)
        given = {one.row: alone.classes.index(one.given) for one in session.shown}
    with_meta = recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"meta": str(run / "reviewed.csv")})}
    )
    splits = load_splits(with_meta.data, with_meta.task)
    assert splits.classes == alone.classes
    assert splits.meta is not None
    assert splits.meta.labels.tolist() == list(chosen.values())
    assert splits.meta.given_labels is not None
    assert splits.meta.given_labels.tolist() == [given[row] for row in chosen]


def reviewed_run(run_sama: Run, out: Path, *given: object) -> Path:
    """A run of two steps whose first rows are suspects, each decided on: half of them accepted."""
    code, _, err = run_sama("reweight", *given, *QUICK, "-o", out)
    assert code == 0, err
    metrics = json.loads((out / "metrics.json").read_text())
    scores = pq.read_table(out / "scores.parquet").to_pylist()[:12]
    shown = metrics["columns"].get("text_columns") or ["image"]
    lines = table(out / "suspects.csv")
    by_row = {line["index"]: line for line in lines}
    dataset = datasets.load_dataset(str(out / "dataset"), split="train")
    names = metrics["classes"]
    rows = []
    for place, one in enumerate(scores):
        other = names[(names.index(one["given_label"]) + 1) % len(names)]
        content = [dataset[place][column] for column in shown] if shown != ["image"] else [
            by_row.get(str(one["index"]), {}).get("image", "")
        ]  # fmt: skip
        rows.append([one["index"], "0.9", "0.1", one["given_label"], other, "1.0", *content])
    header = ["index", "probability", "weight", "given_label", "suggested_label", "loss", *shown]
    write_escaped(out / "suspects.csv", header, rows)
    with opened(out, 1000) as session:
        for i, one in enumerate(session.shown):
            session.decide(one.row, session.classes.index(one.suggested if i % 2 else one.given))
        out.with_name("next").write_text(session.next_command)
    return out


def read_back(run_sama: Run, out: Path, *more: object, clean: int = 12) -> Any:
    """The splits of the run that the session names as the next, after it has been run."""
    command = shlex.split(out.with_name("next").read_text())
    assert command[:2] == ["sama", "reweight"]
    code, _, err = run_sama(*command[1:], *QUICK, *more)
    assert code == 0, err
    again = Path(command[command.index("--output") + 1])
    assert json.loads((again / "metrics.json").read_text())["rows"]["meta"] == clean
    recipe = load_recipe(str(again / "recipe.yaml"))
    return load_splits(recipe.data, recipe.task)


def test_reweight_reads_booleans_of_texts(run_sama: Run, tiny_bert: Path, tmp_path: Path) -> None:
    for name, count in (("train", 40), ("meta", 12)):
        rows = [{"body": text, "spam": label == "sport"} for text, label in sentences(count, 3)]
        if name == "train":
            rows = [{**row, "body": f"{row['body']} {i}"} for i, row in enumerate(rows)]
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = reviewed_run(
        run_sama, tmp_path / "out", "--train", tmp_path / "train.jsonl", "--meta",
        tmp_path / "meta.jsonl", "--text-column", "body", "--label-column", "spam", "--model",
        tiny_bert, "data.meta_per_class=2",
    )  # fmt: skip
    header = list(table(out / "reviewed.csv")[0])
    assert header == ["index", "body", "spam", GIVEN_COLUMN]
    splits = read_back(run_sama, out)
    assert splits.classes == ["False", "True"]
    right = np.arange(12) % 2 == 0
    assert ((splits.meta.labels == splits.meta.given_labels) == right).all()
    assert splits.meta.given_labels.tolist() == splits.train.labels[:12].tolist()
    assert splits.meta.rows["body"][:] == splits.train.rows["body"][:12]


def test_reweight_reads_images_by_their_paths(run_sama: Run, tmp_path: Path) -> None:
    """Beside the six images of the first run's clean set."""
    generator = np.random.default_rng(0)
    for role, count in (("photos", 12), ("clean", 3)):
        for label in ("cat", "dog"):
            (tmp_path / role / label).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / role / label / f"{i}.png")
    out = reviewed_run(
        run_sama, tmp_path / "out", "--train", tmp_path / "photos", "--meta", tmp_path / "clean",
        "--image-column", "image", "--model", "resnet8-small",
    )  # fmt: skip
    lines = table(out / "reviewed.csv")
    assert list(lines[0]) == ["index", "id", "image", "label", GIVEN_COLUMN]
    assert all(line["image"] == f"reviewed/{line['index']}.png" for line in lines)
    splits = read_back(run_sama, out, clean=18)
    pairs = zip(splits.meta.rows["image"][6:], splits.train.rows["image"][:12], strict=True)
    assert all((np.asarray(image) == np.asarray(other)).all() for image, other in pairs)
    assert splits.clean_twins.tolist() == [*range(6, 18), *[-1] * 12], "the same rows to the run"
    assert splits.meta.given_labels.tolist() == [-1] * 6 + [0] * 12
    assert splits.meta.labels.tolist() == [0, 0, 0, 1, 1, 1] + [0, 1] * 6
