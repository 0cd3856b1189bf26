"""`sama rate`: what a run has learnt of slopes, asked about rows that it was not trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from samacli.errors import SamaError
from samacli.runs.reweight import reweight
from samacli.runs.score import score
from tests.conftest import WORDS, make_texts, sentences, text_recipe, write_csv


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def run(texts: dict[str, Path], tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rated") / "run"
    alone = ["training.steps=160", "reweight.baselines=[]", "reweight.clean_share=0"]
    reweight(text_recipe(texts, tiny_bert, *alone), out, device="cpu")
    return out


def rated(run: Path, data: Path, output: Path, **options: object) -> pa.Table:
    score(run, str(data), output, rate=True, device="cpu", **options)  # type: ignore[arg-type]
    return pq.read_table(sorted(output.glob("scores-*.parquet")))


def test_the_training_rows_get_the_slopes_of_the_run(
    run: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    known = pq.read_table(run / "scores.parquet")
    assert np.std(known["slope"].to_numpy()) > 0.1
    found = rated(run, texts["noisy"], tmp_path / "all", rows_a_shard=150)
    assert found.column_names == ["index", "given_label", "prediction", "slope", "weight"]
    for table in (found, rated(run / "rater", texts["noisy"], tmp_path / "again")):
        np.testing.assert_allclose(
            table["slope"].to_numpy(), known["slope"].to_numpy(), rtol=1e-3, atol=1e-3
        )
    order = np.argsort(found["slope"].to_numpy(), kind="stable")
    assert (found["weight"].to_numpy() > 0).all()
    assert (
        found["weight"].to_numpy()[order[-40:]].mean()
        > found["weight"].to_numpy()[order[:40]].mean()
    )


def test_wrong_labels_of_rows_that_it_never_saw_are_rated_lower(run: Path, tmp_path: Path) -> None:
    rows = sentences(120, seed=77)
    classes = list(WORDS)  # wrong in the way that the training rows are
    other = {label: classes[(i + 1) % 3] for i, label in enumerate(classes)}
    pool = [(text, other[label] if i % 3 == 0 else label) for i, (text, label) in enumerate(rows)]
    pool += [(rows[0][0], "")]
    found = rated(run, write_csv(tmp_path / "pool.csv", pool), tmp_path / "out")
    slope, wrong = found["slope"].to_numpy(), np.arange(120) % 3 == 0
    assert np.isnan(slope[-1]), "no label, no slope"
    assert slope[:120][wrong].mean() < slope[:120][~wrong].mean() - 0.1


def test_what_is_no_rater_is_said(run: Path, texts: dict[str, Path], tmp_path: Path) -> None:
    without = tmp_path / "without"
    shutil.copytree(run, without)
    shutil.rmtree(without / "rater")
    with pytest.raises(SamaError, match=r"is no rater; a run writes one .*amortised"):
        rated(without, texts["noisy"], tmp_path / "out")
    (run / "rater").joinpath("rater.json").read_text()
    shutil.copytree(run / "rater", without / "rater")
    facts = json.loads((without / "rater" / "rater.json").read_text())
    assert facts["class_names"] == ["film", "money", "sport"]
    (without / "rater" / "rater.safetensors").write_bytes(b"cut")
    with pytest.raises(SamaError, match=r"cannot be read as a rater"):
        rated(without, texts["noisy"], tmp_path / "out")
