"""A saved model is measured on what is named, by the names of its classes."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from samacli.errors import SamaError
from samacli.runs.evaluate import evaluate
from samacli.training.experiment import Experiment
from tests.conftest import WORDS, text_recipe, write_csv

ROWS = [("ball goal", "sport"), ("bank stock", "money"), ("actor scene", "film")] * 4


@pytest.fixture
def turned(tmp_path: Path, tiny_bert: Path) -> Path:
    """A model that knows the classes in another order than the alphabet's, and answers as told."""
    import torch

    names = ["sport", "film", "money"]
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_bert, num_labels=3, ignore_mismatched_sizes=True
    )
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: i for i, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    # An output that reads the class off a word's embedding, past the one layer.
    torch.nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = torch.tensor([5.0, 0.0, 0.0])  # always "sport"
    model.save_pretrained(tmp_path / "turned")
    tokenizer.save_pretrained(tmp_path / "turned")
    assert set(names) == set(WORDS)
    return tmp_path / "turned"


@pytest.mark.parametrize("split", ["test", "train", "held"])
def test_a_folder_is_its_test_split_or_its_only_one(
    tmp_path: Path, turned: Path, split: str
) -> None:
    (tmp_path / "data").mkdir()
    write_csv(tmp_path / "data" / f"{split}.csv", ROWS)
    assert evaluate(turned, str(tmp_path / "data")).accuracy == pytest.approx(1 / 3)


def test_a_folder_of_several_splits_without_a_test_split_is_asked_about(
    tmp_path: Path, turned: Path
) -> None:
    (tmp_path / "data").mkdir()
    for split in ("train", "dev"):
        write_csv(tmp_path / "data" / f"{split}.csv", ROWS)
    with pytest.raises(SamaError, match=r"holds several splits \(dev, train\); name one of them"):
        evaluate(turned, str(tmp_path / "data"))


def test_classes_in_another_order_start_where_the_model_was(
    tmp_path: Path, turned: Path, texts: dict[str, Path]
) -> None:
    """Of a data set whose classes sort to film, money, sport."""
    write_csv(tmp_path / "sport.csv", [("ball", "sport"), ("the bank", "sport")])
    assert evaluate(turned, str(tmp_path / "sport.csv")).accuracy == 1
    experiment = Experiment.prepare(text_recipe(texts, turned))
    assert experiment.splits.classes == ["film", "money", "sport"]
    found = experiment.evaluate(experiment.new_model(0))
    assert found is not None
    names = list(datasets.Dataset.from_csv(str(texts["test"]))["label"])
    assert found.accuracy == pytest.approx(names.count("sport") / len(names))
    assert names.count("sport") not in (names.count("film"), names.count("money"))
