"""The real data sets of ../shared/data, with figures that were counted independently of samacli."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from samacli.data import encode, load_splits
from samacli.recipe.schema import Columns, Data

TEXT = "text-classification"


@pytest.mark.parametrize(
    ("name", "sizes", "right", "classes"),
    [("trec", (4585, 603, 603), 0.54, 6), ("chemprot", (11061, 1607, 1607), 0.55, 10)],
)
def test_weak_labels_as_json_lines(shared, name, sizes, right, classes):
    path = shared(name)
    columns = Columns(label="weak_label", true_label="label")
    config = Data(path=str(path), meta="validation", test="test", columns=columns)
    splits = load_splits(config, TEXT)
    assert (len(splits.train), len(splits.meta), len(splits.test)) == sizes
    assert len(splits.classes) == classes
    with (path / "train.jsonl").open() as lines:
        records = [json.loads(line) for line in lines]
    given = [splits.classes[y] for y in splits.train.labels]
    assert given == [str(record["weak_label"]) for record in records]
    assert round(accuracy_score(splits.train.true_labels, splits.train.labels), 2) == right
    texts = {record["text"] for record in records}
    with (path / "validation.jsonl").open() as lines:
        clean = [json.loads(line) for line in lines]
    assert [splits.classes[y] for y in splits.meta.labels] == [str(r["label"]) for r in clean]
    given = ["-1" if y < 0 else splits.classes[y] for y in splits.meta.given_labels]
    assert given == [str(record["weak_label"]) for record in clean]
    shared_rows = sum(record["text"] in texts for record in clean)
    expected = f"{shared_rows} of {len(clean)} meta rows also occur in the training split"
    assert any(note.startswith(expected) for note in splits.notes) == (shared_rows > 0)


def test_votes_in_wrench_s_format(shared):
    path = shared("youtube")
    splits = load_splits(Data(path=str(path), meta="validation", test="test"), TEXT)
    entries = list(json.loads((path / "train.json").read_text()).values())
    voted = [i for i, e in enumerate(entries) if max(e["weak_labels"]) >= 0]
    assert splits.train.index.tolist() == voted
    assert splits.classes == ["HAM", "SPAM"]
    assert splits.notes[0] == f"dropped {1586 - len(voted)} of 1,586 rows without a given label"
    for row, label in zip(splits.train.index, splits.train.labels, strict=True):
        votes = np.bincount([v for v in entries[row]["weak_labels"] if v >= 0], minlength=2)
        assert votes[label] == votes.max()
    assert splits.train.true_labels.tolist() == [entries[i]["label"] for i in voted]
    assert len(splits.meta) == 120
    assert len(splits.test) == 250


def test_cifar10(shared):
    path = shared("cifar10")
    config = Data(path=str(path), train="test", columns=Columns(image="img"), max_train_rows=1000)
    splits = load_splits(config, "image-classification")
    assert splits.classes[0] == "airplane"
    assert splits.classes[9] == "truck"
    result = encode(splits.train, splits.columns, splits.task, config=config)
    assert result.__getitems__([0, 999])["pixel_values"].shape == (2, 3, 32, 32)
    expected = np.asarray(splits.train.rows[999]["img"]).transpose(2, 0, 1)
    assert np.array_equal(result.uint8_batch([999])[0].numpy(), expected)
    # The usual figures of CIFAR-10.
    assert np.allclose(result.statistics.mean, [0.491, 0.482, 0.447], atol=0.01)
    assert np.allclose(result.statistics.std, [0.247, 0.243, 0.262], atol=0.01)
