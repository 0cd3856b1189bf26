"""Rows keep their names: ids and image files go with them into everything that is written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from tests.conftest import sentences, write_csv

Run = Callable[..., tuple[int, str, str]]

QUICK = ["training.steps=2", "training.precision=fp32", "training.batch_size=8"]


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_ids_of_texts(run_sama: Run, tiny_bert: Path, tmp_path: Path) -> None:
    # Ids that a number would lose, or a spreadsheet run; one row has no label and is left out.
    ids = [f"00{i}" for i in range(38)] + ["=1+1", "a,b"]
    rows = [(*row, name) for row, name in zip(sentences(40, seed=0), ids, strict=True)]
    rows[3] = (rows[3][0], "", rows[3][2])
    train = write_csv(tmp_path / "train.csv", rows, ("text", "label", "key"))
    test = write_csv(tmp_path / "test.csv", sentences(9, seed=2))
    out = tmp_path / "out"
    code, stdout, err = run_sama(
        "prune", "--train", train, "--test", test, "--model", tiny_bert, "--id-column", "key",
        "--keep", "0.5", "-o", out, *QUICK,
    )  # fmt: skip
    assert code == 0, err
    scores = pq.read_table(out / "scores.parquet")
    assert scores["id"].to_pylist() == ids[:3] + ids[4:]
    kept = table(out / "keep.csv")
    numbers = [int(line) for line in (out / "keep.txt").read_text().split()]
    assert [int(line["index"]) for line in kept] == numbers
    assert [line["id"] for line in kept] == [ids[i] for i in numbers]
    for line in table(out / "suspects.csv"):
        assert line["id"].removeprefix("'") == ids[int(line["index"])]
    code, stdout, err = run_sama("inspect", out, "--row", "4", "--json")
    assert json.loads(stdout)["id"] == "004"
    assert "004" in run_sama("inspect", out, "--row", "4")[1]


def test_names_of_image_files(run_sama: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(6):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    code, _, err = run_sama(
        "prune", "--train", tmp_path / "photos", "--image-column", "image", "--model",
        "resnet8-small", "-o", tmp_path / "out", *QUICK,
    )  # fmt: skip
    assert code == 0, err
    names = [f"{label}/{i}.png" for label in ("cat", "dog") for i in range(6)]
    assert pq.read_table(tmp_path / "out" / "scores.parquet")["id"].to_pylist() == names
    kept = table(tmp_path / "out" / "keep.csv")
    assert [line["id"] for line in kept] == [names[int(line["index"])] for line in kept]


def test_no_names_no_column(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    given = ["reweight", "--train", texts["noisy"], "--meta", texts["clean"], "--model", tiny_bert,
             *QUICK]  # fmt: skip
    assert run_sama(*given, "-o", tmp_path / "out")[0] == 0
    assert "id" not in pq.read_schema(tmp_path / "out" / "scores.parquet").names
    header = (tmp_path / "out" / "suspects.csv").read_text().splitlines()[0]
    assert "id" not in header.split(",")
    code, _, err = run_sama(*given, "--id-column", "ky", "-o", tmp_path / "other")
    assert code == 2
    assert "has no column 'ky' (--id-column)" in err
