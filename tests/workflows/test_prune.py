"""`prune` on images: what is kept, what is measured, and what it says of the meta data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest

from samacli.errors import SamaError
from samacli.recipe import Recipe, load_recipe
from samacli.workflows.prune import prune


class Heard:
    """A `Progress` that remembers what was said."""

    def __init__(self) -> None:
        from samacli.progress import Silent

        self.task = Silent().task
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def digits(*overrides: str) -> Recipe:
    return load_recipe(
        "demo-vision",
        [
            "training.steps=60",
            "meta.learning_rate=0.02",
            "meta.standardize=true",
            "repeats=1",
            "model.config={hidden_sizes: [16, 32], depths: [1, 1], embedding_size: 16}",
            "data.max_train_rows=500",
            *overrides,
        ],
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Heard]:
    output = tmp_path_factory.mktemp("prune") / "out"
    heard = Heard()
    result = prune(digits("prune.keep=[0.6, 100]"), output, device="cpu", progress=heard)
    return output, result, heard


def test_the_dataset_is_the_kept_rows_in_input_order(finished: tuple[Path, Any, Heard]) -> None:
    output, result, _ = finished
    scores = pq.read_table(output / "scores.parquet").to_pydict()
    assert list(scores)[-2:] == ["score", "keep"]
    assert len(scores["index"]) == 500
    assert result.kept == sum(scores["keep"]) == 300
    kept = np.array(scores["keep"])
    score = np.array(scores["score"])
    given = np.array(scores["given_label"])
    for name in np.unique(given):
        inside, outside = score[kept & (given == name)], score[~kept & (given == name)]
        assert inside.min() >= outside.max()
    rows = datasets.load_dataset(str(output / "dataset"), split="train")
    assert len(rows) == 300
    assert list(np.array(scores["given_label"])[kept]) == [
        rows.features["label"].int2str(label) for label in rows["label"]
    ]
    assert np.mean(rows["sama_weight"]) == pytest.approx(1.0, abs=1e-4)
    assert "true_label" in rows.column_names


def test_every_method_is_measured_at_every_keep(finished: tuple[Path, Any, Heard]) -> None:
    output, _, _ = finished
    metrics = json.loads((output / "metrics.json").read_text())
    assert set(metrics["methods"]) == {"full", "random", "sama"}
    assert len(metrics["methods"]["full"]["accuracy"]) == 1
    for name in ("random", "sama"):
        assert set(metrics["methods"][name]["by_keep"]) == {"0.6", "100"}
        assert (
            metrics["methods"][name]["accuracy"]
            == metrics["methods"][name]["by_keep"]["0.6"]["accuracy"]
        )
    assert metrics["keep"] == {"0.6": 300, "100": 100}
    assert metrics["noise_detection"]["average_precision"] > 0.4, "chance is 0.2"


def test_with_a_clean_set_it_says_so_and_does_not_warn(finished: tuple[Path, Any, Heard]) -> None:
    _, _, heard = finished
    assert any("the meta data are the clean set" in note for note in heard.notes)
    assert not heard.warnings


def test_suspects_name_an_image_file(finished: tuple[Path, Any, Heard]) -> None:
    from PIL import Image

    output, result, _ = finished
    lines = (output / "suspects.csv").read_text().splitlines()
    assert len(lines) == result.suspects + 1 > 10
    assert lines[0] == "index,weight,given_label,suggested_label,loss,image"
    image = Image.open(output / lines[1].split(",")[-1])
    assert image.size == (8, 8)


def test_the_model_and_its_processor_classify_images(finished: tuple[Path, Any, Heard]) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    output, _, _ = finished
    processor = AutoImageProcessor.from_pretrained(output / "model")
    model = AutoModelForImageClassification.from_pretrained(output / "model").eval()
    rows = datasets.load_dataset(str(output / "dataset"), split="train").select(range(30))
    logits = model(**processor(list(rows["image"]), return_tensors="pt")).logits
    answers = [model.config.id2label[i] for i in logits.argmax(-1).tolist()]
    names = [rows.features["label"].int2str(label) for label in rows["true_label"]]
    assert np.mean([a == b for a, b in zip(answers, names, strict=True)]) > 0.5


def test_the_resolved_recipe_repeats_the_selection(
    finished: tuple[Path, Any, Heard], tmp_path: Path
) -> None:
    output, _, _ = finished
    recipe = load_recipe(str(output / "recipe.yaml"))
    prune(recipe, tmp_path / "again", device="cpu")
    one, two = (pq.read_table(path / "scores.parquet") for path in (output, tmp_path / "again"))
    assert one.equals(two)


def test_without_a_clean_set_it_warns_that_wrong_labels_stay(tmp_path: Path) -> None:
    heard = Heard()
    recipe = digits("data.meta=null", "training.steps=3", "prune.baselines=[]")
    result = prune(recipe, tmp_path / "out", device="cpu", progress=heard)
    assert any("the score keeps what is hard to learn" in warning for warning in heard.warnings)
    assert result.metrics["meta_data"] == "training set"
    assert set(result.methods) == {"sama"}


def test_text_is_pruned_by_the_same_command(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(
        None,
        ["training.steps=5", "prune.keep=[0.5]", "training.batch_size=16"],
        {
            "data.train": str(texts["noisy"]),
            "data.meta": str(texts["clean"]),
            "model.name": str(tiny_bert),
        },
    )
    result = prune(recipe, tmp_path / "out", device="cpu")
    assert result.kept == 200
    assert len(datasets.load_dataset(str(tmp_path / "out" / "dataset"), split="train")) == 200


def test_more_than_there_is_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(SamaError, match=r"--keep 5000 asks for 5,000 rows, but the training split"):
        prune(digits("prune.keep=[5000]"), tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()
