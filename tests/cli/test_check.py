"""`sama check`: what is in the data, before anything is trained on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samacli.data.guess import guess_columns
from samacli.data.sources import make_opener
from samacli.errors import SamaError
from samacli.recipe import Data
from tests.conftest import write_csv

Run = Callable[..., tuple[int, str, str]]

GOOD = [("a good film", "pos"), ("a bad film", "neg"), ("the best of days", "pos"),
        ("the worst of days", "neg")]  # fmt: skip
CLEAN = [("what a film", "pos"), ("what a bore", "neg")]


@pytest.fixture
def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the step of the packaged model that is tried, which takes seconds."""
    from samacli.runs import check

    monkeypatch.setattr(check, "look_ahead", lambda *given: None)


def test_what_lies_ahead_is_told_with_reasons(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path
) -> None:
    given = ["check", texts["noisy"], texts["clean"], texts["test"], "--text-column", "text",
             "--label-column", "label"]  # fmt: skip
    code, out, err = run_sama(*given, "--model", tiny_bert, "--json")
    assert code == 0, err
    ahead = json.loads(out)["ahead"]
    values = {one["key"]: one["value"] for one in ahead["auto"]}
    assert values == {
        "data.source": "csv",
        "meta.reweighter": "amortised",
        "training.precision": values["training.precision"],
        "reweight.prior": "none",
        "reweight.class_frequencies": "clean",
        "meta.derivative": "contraction",
        "meta.unroll": 2,
        "model.cache_frozen": False,
        "model.freeze": [],
        "training.batch_size": 16,
        "training.optimizer.learning_rate": values["training.optimizer.learning_rate"],
        "training.optimizer.name": "adamw",
        "training.optimizer.weight_decay": 0.01,
        "training.steps": 200,
    }
    assert all(one["why"] for one in ahead["auto"])
    assert 0 < ahead["estimate"]["seconds"] < 600
    assert 2**20 < ahead["estimate"]["memory_bytes"] < 2**34
    # Two passes over 400 rows are fewer.
    assert ahead["sentence"].startswith("sama reweight takes: 6 trainings of 200 steps, about ")
    code, out, _ = run_sama(*given, "--model", "nobody/nothing")
    assert code == 2
    code, out, err = run_sama("check", texts["noisy"], "--model", tiny_bert)
    assert code == 0, err
    assert "a plain training takes: 1 training of 200 steps, about " in " ".join(out.split())


@pytest.mark.usefixtures("no_steps")
def test_good_data_have_no_problem(run_sama: Run, tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", GOOD, ("review", "stars"))
    meta = write_csv(tmp_path / "meta.csv", CLEAN, ("review", "stars"))
    code, out, err = run_sama("check", train, meta)
    assert code == 0, err
    assert "text 'review' (guessed), label 'stars' (guessed)" in out
    assert "no problem found" in out

    code, out, _ = run_sama("check", train, meta, "--json")
    found = json.loads(out)
    assert (code, found["problems"], found["remarks"]) == (0, [], [])
    assert found["rows"] == {"train": 4, "meta": 2}
    assert found["classes"]["train"] == {"neg": 2, "pos": 2}
    assert found["texts"]["train"]["unit"] == "words"
    assert (found["texts"]["train"]["median"], found["texts"]["train"]["longest"]) == (3.5, 4)


@pytest.mark.usefixtures("no_steps")
def test_what_would_spoil_a_result_is_a_problem(run_sama: Run, tmp_path: Path) -> None:
    rows = [*GOOD, GOOD[0], ("a good film", "neg"), ("?!", "neg"), ("12:30 / 14:45", "pos"),
            ("word " * 200, "pos"), ("rare", "odd")]  # fmt: skip
    train = write_csv(tmp_path / "train.csv", rows)
    meta = write_csv(tmp_path / "meta.csv", CLEAN)
    test = write_csv(tmp_path / "test.csv", [GOOD[1], CLEAN[0], ("new", "pos")])
    code, out, _ = run_sama("check", train, meta, test, "--json")
    found = json.loads(out)
    assert code == 1
    problems, remarks = "\n".join(found["problems"]), "\n".join(found["remarks"])
    assert "1 of 3 test rows also occurs in the training split" in problems
    assert "1 of 3 test rows also occurs in the meta split" in problems
    assert "the meta split has no row of class 'odd'" in problems
    assert found["copies"]["train"] == {"rows": 2, "other_label": 2}
    assert "2 of 10 training rows are copies, 2 of them with another label" in remarks
    assert "at least 1 of 10 training texts is longer than 128 tokens (--max-length)" in remarks
    assert "1 of 10 training texts holds fewer than 3 letters or digits; the first is row 6" in (
        remarks
    )
    assert "1 of 10 training texts is for the most part no letters; the first is row 7" in remarks
    code, shown, _ = run_sama("check", train, meta, test)
    assert code == 1
    assert "3 problems" in shown
    assert "remark: 2 of 10 training rows are copies" in shown


@pytest.mark.usefixtures("no_steps")
def test_what_stops_a_run_is_a_problem_and_a_missing_file_an_error(
    run_sama: Run, tmp_path: Path
) -> None:
    train = write_csv(tmp_path / "train.csv", [*GOOD, ("", "pos")])
    code, out, _ = run_sama("check", train)
    assert code == 1
    assert "problem: 1 of 5 rows" in out
    assert "has no text in column 'text'" in out
    code, _, err = run_sama("check", tmp_path / "nowhere.csv")
    assert code == 2
    assert "nowhere.csv" in err


def test_tokens_of_a_model_are_counted_in_full(
    run_sama: Run, tmp_path: Path, tiny_bert: Path
) -> None:
    train = write_csv(tmp_path / "train.csv", [("ball goal team", "x"), ("bank " * 20, "y")])
    code, out, err = run_sama("check", train, "--model", tiny_bert, "--max-length", "16", "--json")
    assert code == 0, err
    texts = json.loads(out)["texts"]["train"]
    assert texts["unit"] == "tokens"
    assert texts["longest"] == 22, "with [CLS] and [SEP]"
    assert (texts["max_length"], texts["longer"]) == (16, 1)


def test_a_folder_of_images(run_sama: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for label, side in (("cat", 16), ("dog", 24)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(3):
            pixels = generator.integers(0, 256, (side, side // 2, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    code, out, err = run_sama("check", tmp_path / "photos", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["task"] == "image-classification"
    assert found["images"]["train"] == {
        "smallest": [8, 16], "median": [12, 24], "largest": [12, 24], "different": 2,
    }  # fmt: skip
    assert "is not known: no model of images is named" in found["ahead"]["sentence"]
    assert "8 × 16" in run_sama("check", tmp_path / "photos")[1]


@pytest.mark.parametrize(
    ("header", "rows", "text", "label"),
    [
        (("id", "sentence", "label"), [("1", "a b", "x"), ("2", "c", "y")], "sentence", "label"),
        # No usual name: the longest strings, and the fewest different values.
        (
            ("code", "what", "kind"),
            [(f"c{i}", f"some words {i}", "xy"[i % 2]) for i in range(6)],
            "what",
            "kind",
        ),
        # Numbers are classes too.
        (("Text", "stars"), [(f"film {i}", str(i % 3)) for i in range(9)], "Text", "stars"),
    ],
)
def test_columns_are_guessed(
    header: tuple[str, ...], rows: list[tuple[str, ...]], text: str, label: str, tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "t.csv", rows, header)
    table = make_opener(Data(train=str(file)))(str(file), "data.train")
    task, columns, guessed = guess_columns(table, {})
    assert (task, columns.text, columns.label) == ("text-classification", text, label)
    assert guessed == ["text", "label"]
    said = guess_columns(table, {"text": text, "label": header[0]})
    assert (said[1].label, said[2]) == (header[0], []), "as it was said"


def test_no_column_of_labels(tmp_path: Path) -> None:
    file = write_csv(tmp_path / "t.csv", [(f"film {i}", f"k{i}") for i in range(9)], ("a", "b"))
    table = make_opener(Data(train=str(file)))(str(file), "data.train")
    with pytest.raises(SamaError, match="--label-column"):
        guess_columns(table, {})


def test_a_run_begins_with_three_lines_of_it(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    given = ["reweight", "--train", texts["noisy"], "--meta", texts["clean"], "--model", tiny_bert,
             "training.steps=1", "training.precision=fp32"]  # fmt: skip
    code, _, err = run_sama(*given, "-o", tmp_path / "out")
    assert code == 0, err
    lines = err.splitlines()
    for start in ("rows: 400 training, 60 meta; 3 classes, the rarest ", "twice: ", "takes: "):
        assert any(line.startswith(start) for line in lines), err
