"""`sama label`: what is asked about, in which file, and how it comes back."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from samacli.data import load_splits
from samacli.errors import SamaError
from samacli.recipe import load_recipe
from samacli.runs.label import label
from samacli.runs.prune import prune
from samacli.runs.reweight import reweight
from tests.conftest import WORDS, make_texts, text_recipe, write_csv

Run = Callable[..., tuple[int, str, str]]
QUICK = ["training.steps=20", "reweight.baselines=[]"]
FORMULAS = ["=1+1 the ball", "- goal of the day", "'=team", "@bank\ttrade", "player said:\n+1, ok"]
BUDGET = 12


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))


def saved(file: Path, rows: list[dict[str, str]]) -> Path:
    """As a spreadsheet of another country saves it."""
    with file.open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return file


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """With names; 30 clean rows are training rows too, of which there are three copies each, and
    some texts are formulas to a spreadsheet."""
    made = make_texts(tmp_path_factory.mktemp("texts"))
    with made["noisy"].open(newline="") as file:
        rows = [tuple(row) for row in list(csv.reader(file))[1:]]
    rows += rows[:30] * 2 + [(text, "money", "sport") for text in FORMULAS]
    named = [(*row, f"n{i}") for i, row in enumerate(rows)]
    write_csv(made["noisy"], named, ("text", "label", "truth", "name"))
    with made["clean"].open(newline="") as file:
        clean = [tuple(row) for row in list(csv.reader(file))[1:]]
    write_csv(made["clean"], [*clean, *((text, truth) for text, _, truth in rows[:30])])
    return made


@pytest.fixture(scope="module")
def run(texts: dict[str, Path], tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("asked") / "run"
    reweight(text_recipe(texts, tiny_bert, *QUICK, "data.columns.id=name"), out)
    return out


def test_rows_nobody_knows_each_text_once(run: Path, texts: dict[str, Path]) -> None:
    found = label(run, budget=100, output=run.parent / "many.csv")
    noisy = table(texts["noisy"])
    clean = {row["text"] for row in table(texts["clean"])}
    free = {row["text"] for row in noisy} - clean
    assert found.free == len(free)
    lines = table(run.parent / "many.csv")
    assert list(lines[0]) == [
        "index", "id", "text", "label", "sama_given", "sama_suggested", "sama_why",
    ]  # fmt: skip
    assert len(lines) == len(found.questions) == 100
    asked = [one.content[0] for one in found.questions]
    assert len(set(asked)) == 100
    assert set(asked) <= free
    for line, one in zip(lines, found.questions, strict=True):
        source = noisy[int(line["index"])]
        assert (line["id"], one.content[0]) == (source["name"], source["text"])
        assert line["sama_given"] == source["label"]
        assert line["sama_suggested"] in WORDS
        assert line["label"] == ""
        assert line["sama_why"].endswith(".")
    assert sum(found.by_given.values()) == sum(found.by_suggested.values()) == 100


def test_reviewed_rows_are_known(run: Path, texts: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = label(copy, budget=BUDGET, output=tmp_path / "a.csv")
    rows = [(str(one.row), one.content[0], "sport", one.given) for one in before.questions]
    write_csv(copy / "reviewed.csv", rows, ("index", "text", "label", "sama_given"))
    after = label(copy, budget=BUDGET, output=tmp_path / "b.csv")
    assert after.free == before.free - BUDGET
    assert not {one.row for one in before.questions} & {one.row for one in after.questions}


def test_a_filled_in_file_comes_back(
    run: Path, texts: dict[str, Path], run_sama: Run, tmp_path: Path
) -> None:
    code, out, err = run_sama("label", run, "--budget", BUDGET, "-o", tmp_path / "label.csv")
    assert code == 0, err
    assert f"{BUDGET} of" in out
    lines = table(tmp_path / "label.csv")
    truth = {i: row["truth"] for i, row in enumerate(table(texts["noisy"]))}
    for line in lines[: BUDGET - 4]:
        line["label"] = truth[int(line["index"])]
    file = saved(tmp_path / "label.csv", lines)
    code, out, err = run_sama(
        "reweight", run / "recipe.yaml", "--meta", texts["clean"], "--meta", file, *QUICK,
        "training.precision=fp32", "--output", tmp_path / "again",
    )  # fmt: skip
    assert code == 0, err
    said = " ".join(err.split())
    assert f"labelled rows of {file}: {BUDGET - 4} of {BUDGET}; the others" in said
    metrics = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert metrics["rows"]["meta"] == len(table(texts["clean"])) + BUDGET - 4
    first = json.loads((run / "metrics.json").read_text())["methods"]["sama"]["accuracy"][0]
    now = metrics["methods"]["sama"]["accuracy"][0]
    told = " ".join(out.split())
    assert f"on the same 90 test rows: {first:.3f} in {run}, {now:.3f} now" in told
    assert "differ too" not in told
    recipe = load_recipe(str(tmp_path / "again" / "recipe.yaml"))
    splits = load_splits(recipe.data, recipe.task)
    names = np.array(splits.classes)
    filled = lines[: BUDGET - 4]
    place = {row: i for i, row in enumerate(splits.train.index.tolist())}
    assert splits.meta is not None
    added = splits.meta.select(np.arange(len(splits.meta) - len(filled), len(splits.meta)))
    assert names[added.labels].tolist() == [line["label"] for line in filled]
    assert added.given_labels is not None
    assert names[added.given_labels].tolist() == [line["sama_given"] for line in filled]
    rows = [place[int(line["index"])] for line in filled]
    assert added.rows["text"][:] == splits.train.rows.select(rows)["text"][:]
    assert (splits.clean_twins[rows] >= 0).all(), "known in training, too"


def test_what_a_spreadsheet_would_run_comes_back_as_it_was(
    run: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    found = label(run, budget=label_all(run, tmp_path), output=tmp_path / "all.csv")
    lines = table(tmp_path / "all.csv")
    assert not [line for line in lines if line["text"].startswith(("=", "-", "@", "+", "\t"))]
    assert {one.content[0] for one in found.questions} >= set(FORMULAS)
    for line in lines:
        line["label"] = "film"
    lines[0]["label"], lines[1]["label"] = "sport", " money "
    recipe = load_recipe(
        None, [], {"data.train": str(texts["noisy"]), "data.meta": str(saved(tmp_path / "all.csv",
                                                                            lines))},
    )  # fmt: skip
    meta = load_splits(recipe.data, recipe.task).meta
    assert meta is not None
    assert meta.rows["text"][:] == [one.content[0] for one in found.questions]


def label_all(run: Path, tmp_path: Path) -> int:
    """How many rows there are to ask about."""
    return label(run, budget=1, output=tmp_path / "one.csv").free


def test_label_studio_shows_the_row_and_its_export_comes_back(
    run: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    found = label(run, budget=BUDGET, kind="label-studio", output=tmp_path / "tasks.json")
    assert [file.name for file in found.files] == ["tasks.json", "tasks.xml"]
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    plain = [one.content[0] for one in found.questions if not one.content[0].startswith("'")]
    assert {task["data"]["text"] for task in tasks} >= set(plain)
    view = ElementTree.parse(tmp_path / "tasks.xml").getroot()
    choices = view.find("Choices")
    assert choices is not None
    assert sorted(one.get("value") or "" for one in choices) == sorted(WORDS)
    shown = {one.get("name") for one in view if one.tag == "Text"}
    assert choices.get("toName") in shown
    variables = {v[1:] for one in view.iter() for k, v in one.items() if v.startswith("$")}
    assert all(variables <= set(task["data"]) for task in tasks)
    # As label_studio_converter.exports.csv2 writes it: the answer, then the keys of `data`.
    rows = [
        {"label": "film" if i else "sport", "annotator": "1", **task["data"]}
        for i, task in enumerate(tasks)
    ]
    file = saved(tmp_path / "export.csv", rows)
    recipe = load_recipe(None, [], {"data.train": str(texts["noisy"]), "data.meta": str(file)})
    splits = load_splits(recipe.data, recipe.task)
    assert splits.meta is not None
    assert len(splits.meta) == BUDGET
    assert splits.meta.given_labels is not None
    assert (splits.clean_twins >= 0).sum() >= BUDGET


def test_argilla_records(run: Path, tmp_path: Path) -> None:
    found = label(run, budget=BUDGET, kind="argilla", output=tmp_path / "records.json")
    records = json.loads((tmp_path / "records.json").read_text())
    for record, one in zip(records, found.questions, strict=True):
        assert record["id"] == str(one.row)
        assert record["fields"]["text"] in (one.content[0], f"'{one.content[0]}")
        assert record["fields"]["sama_given"] == one.given
        assert record["metadata"] == {"index": one.row, "id": one.name}
        assert record["suggestions"]["label"]["value"] == one.suggested
        assert record["responses"] == {}


def photos(folder: Path) -> dict[str, Path]:
    generator = np.random.default_rng(0)
    for role, count in (("photos", 12), ("clean", 3)):
        for name in ("cat", "dog"):
            (folder / role / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / role / name / f"{i}.png")
    return {role: folder / role for role in ("photos", "clean")}


def test_images_lie_beside_the_file_and_come_back(run_sama: Run, tmp_path: Path) -> None:
    made = photos(tmp_path)
    common = ["training.precision=fp32", "training.batch_size=8", *QUICK]
    code, _, err = run_sama(
        "reweight", "--train", made["photos"], "--meta", made["clean"], "--image-column", "image",
        "--model", "resnet8-small", *common, "-o", tmp_path / "run",
    )  # fmt: skip
    assert code == 0, err
    code, out, err = run_sama("label", tmp_path / "run", "--budget", 6)
    assert code == 0, err
    file = tmp_path / "run" / "label.csv"
    lines = table(file)
    for line in lines:
        name, number = line["id"].split("/")
        assert line["sama_given"] == name
        assert line["image"].startswith("label/")
        source = made["photos"] / name / number
        assert (file.parent / line["image"]).read_bytes() == source.read_bytes()
    lines[0]["label"], lines[1]["label"] = "dog", "cat"
    saved(file, lines)
    command = out.split("next: sama ")[1].split()
    code, _, err = run_sama(*command, *common)
    assert code == 0, err
    again = Path(command[command.index("--output") + 1])
    assert json.loads((again / "metrics.json").read_text())["rows"]["meta"] == 6 + 2
    code, _, err = run_sama(
        "reweight", again / "recipe.yaml", "-o", tmp_path / "run", "--overwrite"
    )
    assert code == 2
    assert "holds label.csv, which may be filled in" in " ".join(err.split())
    found = label(tmp_path / "run", budget=2, kind="label-studio", output=tmp_path / "tasks.json")
    task = json.loads((tmp_path / "tasks.json").read_text())[0]["data"]
    assert task["image"] == f"photos/{found.questions[0].name}", "not copied: it lies below"
    assert task["sama_url"] == f"/data/local-files/?d={task['image']}"


def test_a_pruned_run_without_a_clean_set(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    recipe = text_recipe(texts, tiny_bert, "training.steps=20", "prune.keep=[0.5]")
    data = recipe.data.model_copy(update={"meta": None})
    prune(recipe.model_copy(update={"data": data}), tmp_path / "run")
    found = label(tmp_path / "run", budget=9)
    assert found.files == [tmp_path / "run" / "label.csv"]
    assert len(found.questions) == 9
    assert found.free == len({row["text"] for row in table(texts["noisy"])}), "pruned ones too"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"budget": 0}, "--budget 0 asks for no row"),
        ({"budget": 1000}, r"--budget 1000: only \d+ of \d+ rows can be asked about"),
        ({"kind": "excel"}, "--format 'excel' is none of csv, argilla, label-studio"),
        ({"output": "there.csv"}, "'.*there.csv' is there already"),
        ({"output": "folder"}, "'.*folder' is a directory; name a file"),
        ({"directory": "no"}, "there is no directory"),
        ({"directory": "."}, r"holds no metrics\.json, so it is no finished run"),
    ],
)
def test_bad_questions_are_refused(
    run: Path, tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    (tmp_path / "there.csv").write_text("kept")
    (tmp_path / "folder").mkdir()
    for name in ("output", "directory"):
        if name in given:
            given = {**given, name: tmp_path / given[name]}
    given = {"directory": run, "output": tmp_path / "label.csv", **given}
    with pytest.raises(SamaError, match=said):
        label(given.pop("directory"), **given)
    assert (tmp_path / "there.csv").read_text() == "kept"
    assert not (tmp_path / "label.csv").exists()


def test_a_run_without_its_model_or_its_data_is_refused(
    run: Path, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "model")
    with pytest.raises(SamaError, match="holds no model/"):
        label(copy)
    shutil.copytree(run / "model", copy / "model")
    changed = tmp_path / "noisy.csv"
    lines = texts["noisy"].read_text().splitlines(keepends=True)
    changed.write_text("".join(lines[:1] + lines[2:]))
    recipe = copy / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(texts["noisy"]), str(changed)))
    with pytest.raises(SamaError, match="does not have the rows any more"):
        label(copy)


def test_a_file_that_nobody_has_filled_in_is_no_clean_set(
    run: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    label(run, budget=5, output=tmp_path / "label.csv")
    for meta, said in (
        (tmp_path / "label.csv", "no row of .*label.csv is labelled"),
        (tmp_path / "typed.csv", "has the label 'sprot' in row 0 .* did you mean 'sport'"),
    ):
        lines = table(tmp_path / "label.csv")
        lines[0]["label"] = "sprot"
        saved(tmp_path / "typed.csv", lines)
        data = {"data.train": str(texts["noisy"]), "data.meta": str(meta)}
        recipe = load_recipe(None, [], data)
        with pytest.raises(SamaError, match=said):
            load_splits(recipe.data, recipe.task)
