"""`prune` on images: what is kept, what is measured, and what it says of the meta data."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from samacli.data import load_splits
from samacli.errors import SamaError
from samacli.pruning.label_noise import TRUSTED
from samacli.recipe import Recipe, load_recipe
from samacli.runs.prune import prune
from samacli.runs.prune.order import choose_order, select_random
from samacli.runs.train import train
from samacli.training.experiment import Experiment

SELECTIONS = ("random", "sama", "ccs")


class Heard:
    """A `Progress` that remembers what was said."""

    def __init__(self) -> None:
        from samacli.progress import Silent

        self.task, self.expect = Silent().task, Silent().expect
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


TINY = [
    "training.steps=60",
    "meta.learning_rate=0.02",
    "meta.standardize=true",
    "repeats=1",
    "model.config={hidden_sizes: [16, 32], depths: [1, 1], embedding_size: 16}",
    "data.max_train_rows=400",
]


def digits(*overrides: str) -> Recipe:
    return load_recipe("demo-vision", [*TINY, "prune.order=highest", *overrides])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Heard]:
    output = tmp_path_factory.mktemp("prune") / "out"
    heard = Heard()
    recipe = digits("prune.keep=[0.6, 100]", "prune.scores=[el2n]")
    result = prune(recipe, output, device="cpu", progress=heard)
    return output, result, heard


@pytest.mark.parametrize("balanced", [True, False])
def test_random_rows_are_drawn_as_scores_choose_theirs(balanced: bool) -> None:
    """Classes in their proportions where the recipe says so, and labelled rows first."""
    labels = np.repeat([0, 1, 2, -1], [60, 30, 9, 1 if balanced else 101])
    prune_section = SimpleNamespace(class_balanced=balanced)
    experiment: Any = SimpleNamespace(
        splits=SimpleNamespace(train=SimpleNamespace(labels=labels)),
        recipe=SimpleNamespace(prune=prune_section, seed=0),
    )
    draws = [select_random(experiment, 40, seed) for seed in range(20)]
    assert len({tuple(rows) for rows in draws}) == 20
    for rows in draws:
        counts = np.bincount(labels[rows] + 1, minlength=4)
        if balanced:
            assert list(counts[1:]) == [24, 12, 4]
        assert counts[0] == 0
    if not balanced:
        assert len({int((labels[rows] == 2).sum()) for rows in draws}) > 1


def test_the_dataset_is_the_kept_rows_in_input_order(finished: tuple[Path, Any, Heard]) -> None:
    output, result, _ = finished
    scores = pq.read_table(output / "scores.parquet").to_pydict()
    assert list(scores)[-2:] == ["score", "keep"]
    assert len(scores["index"]) == 400
    assert result.kept == sum(scores["keep"]) == 240
    kept = np.array(scores["keep"])
    score = np.array(scores["score"])
    given = np.array(scores["given_label"])
    for name in np.unique(given):
        inside, outside = score[kept & (given == name)], score[~kept & (given == name)]
        assert inside.min() >= outside.max()
    rows = datasets.load_dataset(str(output / "dataset"), split="train")
    assert len(rows) == 240
    assert list(np.array(scores["given_label"])[kept]) == [
        rows.features["label"].int2str(label) for label in rows["label"]
    ]
    assert np.mean(rows["sama_weight"]) == pytest.approx(1.0, abs=1e-4)
    assert "true_label" in rows.column_names


def test_kept_rows_are_trained_on_as_they_were_measured_each_once(
    finished: tuple[Path, Any, Heard], tmp_path: Path
) -> None:
    """The weights that stand beside them made the choice; the figures of the run are without."""
    output, _, _ = finished
    quick = ["training.steps=2"]
    said = "(--weights counts their weights)"
    for use, weighted in ((None, False), (True, True), (False, False)):
        heard, again = Heard(), tmp_path / str(use)
        train(output, again, quick, use_weights=use, device="cpu", progress=heard)
        assert json.loads((again / "metrics.json").read_text())["weighted"] is weighted
        assert any(said in note for note in heard.notes) is (use is None)


def test_lists_of_kept_rows_agree_with_the_scores(finished: tuple[Path, Any, Heard]) -> None:
    output, _, _ = finished
    scores = pq.read_table(output / "scores.parquet")
    for column, file in (
        ("keep", "keep.txt"),
        ("keep", "keep-0.6.txt"),
        ("keep-100", "keep-100.txt"),
    ):
        kept = scores.filter(scores[column])["index"].to_pylist()
        assert (output / file).read_text().split() == [str(row) for row in kept]
    assert sum(scores["keep-100"].to_pylist()) == 100


def test_doubted_labels_are_pruned_first_and_most_of_them_are_wrong(
    finished: tuple[Path, Any, Heard],
) -> None:
    output, _, heard = finished
    scores = pq.read_table(output / "scores.parquet").to_pandas()
    assert np.isfinite(scores["el2n"]).all(), "every score asked for is there"
    doubted = scores["right"] <= TRUSTED
    assert scores[doubted]["score"].max() < 1 <= scores[~doubted]["score"].min()
    recipe = load_recipe(str(output / "recipe.yaml"))
    train = load_splits(recipe.data, recipe.task).train
    assert train.true_labels is not None
    wrong = train.labels != train.true_labels
    assert wrong[doubted].mean() > 0.5 > 0.2 > wrong[scores["keep-100"]].mean()
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["diagnosis"]["doubted"] == pytest.approx(wrong.mean(), abs=0.15)
    rate = metrics["noise_rate"]
    assert any(rate["sentence"] in note for note in heard.notes)
    assert rate["level"] == 0.9
    if rate["low"] is None:
        assert "is not known" in rate["sentence"]
    else:
        assert rate["low"] <= wrong.mean() <= rate["high"]


def test_each_class_has_a_picture_of_both_ends(finished: tuple[Path, Any, Heard]) -> None:
    output, _, _ = finished
    assert sorted(file.name for file in (output / "pictures").iterdir()) == [
        f"{digit:03d}-{digit}.png" for digit in range(10)
    ]


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
    assert metrics["keep"] == {"0.6": 240, "100": 100}
    assert metrics["noise_detection"]["average_precision"] > 0.4, "chance is 0.2"


def test_a_guarded_run_does_not_warn(finished: tuple[Path, Any, Heard]) -> None:
    output, _, heard = finished
    assert json.loads((output / "metrics.json").read_text())["meta_data"] == "clean set"
    assert not heard.warnings


def test_suspects_name_an_image_file(finished: tuple[Path, Any, Heard]) -> None:
    from PIL import Image

    output, result, _ = finished
    lines = (output / "suspects.csv").read_text().splitlines()
    assert len(lines) == result.suspects + 1 > 10
    assert lines[0] == "index,probability,weight,given_label,suggested_label,loss,image"
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
    recipe = load_recipe(str(output / "recipe.yaml"), ["prune.baselines=[]"])
    prune(recipe, tmp_path / "again", device="cpu")
    one, two = (pq.read_table(path / "scores.parquet") for path in (output, tmp_path / "again"))
    assert one.equals(two)


def test_the_papers_way_warns_where_its_weights_rise_with_the_loss(tmp_path: Path) -> None:
    heard = Heard()
    recipe = digits("data.meta=null", "prune.baselines=[]", "prune.trust=none")
    result = prune(recipe, tmp_path / "out", device="cpu", progress=heard)
    scores = pq.read_table(tmp_path / "out" / "scores.parquet").to_pandas()
    expected = spearmanr(scores["weight"], scores["loss"]).statistic
    diagnosis = result.metrics["diagnosis"]
    assert diagnosis["correlation"] == pytest.approx(expected, abs=1e-3)
    assert diagnosis["doubted"] is None
    assert result.metrics["noise_rate"] is None, "nothing was asked"
    warned = any("the score keeps what is hard to learn" in warning for warning in heard.warnings)
    assert warned == (diagnosis["case"] == "keeps hard") == (expected > 0.1)
    assert result.metrics["meta_data"] == "training set"
    assert set(result.methods) == {"sama"}
    assert "right" not in pq.read_schema(tmp_path / "out" / "scores.parquet").names


def test_verified_subsets_are_trained_by_steps_and_by_epochs(
    tmp_path: Path, run_sama: Callable[..., tuple[int, str, str]]
) -> None:
    """Every score's, beside all rows and random; and what is recommended is one of them."""
    output = tmp_path / "out"
    code, said, err = run_sama(
        "prune", "demo-vision", "--keep", "0.5,0.25", "--verify", "--scores", "ccs",
        "--output", output, "--device", "cpu", *TINY, "data.max_train_rows=200", "data.meta=null",
        "training.steps=60", "prune.order=trial", "prune.score_runs=1", "repeats=2",
    )  # fmt: skip
    assert code == 0, err
    rows = list(csv.DictReader((output / "curve.csv").open()))
    assert {(row["selection"], row["keep"], row["budget"], row["steps"]) for row in rows} == {
        ("full", "", "steps", "60"),
        *((name, keep, "steps", "60") for name in SELECTIONS for keep in ("0.5", "0.25")),
        *((name, "0.5", "epochs", "30") for name in SELECTIONS),
        *((name, "0.25", "epochs", "15") for name in SELECTIONS),
    }
    for row in rows:
        accuracy = [float(value) for value in row["accuracy"].split()]
        assert len(accuracy) == 2
        assert float(row["mean"]) == pytest.approx(np.mean(accuracy), abs=1e-5)
        assert float(row["spread"]) == pytest.approx(np.std(accuracy, ddof=1), abs=1e-5)
    metrics = json.loads((output / "metrics.json").read_text())
    assert len(metrics["curve"]) == len(rows)
    assert metrics["recommended"]["steps"]["keep"] in (None, "0.5", "0.25")
    assert metrics["scoring"]["sama"]["runs"] == 1
    assert set(metrics["tried"]["0.5"]) == {"highest", "even", "lowest"}
    for budget in ("steps", "epochs"):
        sentence = metrics["recommended"][budget]["why"]
        assert sentence in (output / "curve.md").read_text()
        assert sentence in " ".join(said.split()), "at whatever width it is said"
    assert "same epochs" in " ".join(said.split())
    assert (output / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_orders_are_judged_by_rows_that_no_weight_has_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rows that a trial asks about are in no run whose weights it ranks by."""
    from samacli.runs.prune import order, scoring

    recipe = digits("prune.order=trial", "prune.score_runs=1", "prune.keep=[0.5]", "data.meta=null")
    experiment = Experiment.prepare(recipe, device="cpu")
    learnt: list[np.ndarray] = []
    asked: list[np.ndarray] = []
    learn, ask = scoring.fit_sama, order.train_and_ask

    def learns(*arguments: Any, rows: np.ndarray | None, **options: Any) -> Any:
        assert rows is not None
        learnt.append(rows)
        return learn(*arguments, rows=rows, **options)

    def asks(experiment: Any, seed: int, name: str, rows: Any, unseen: Any, **options: Any) -> Any:
        asked.append(unseen)
        return ask(experiment, seed, name, rows, unseen, **options)

    monkeypatch.setattr(scoring, "fit_sama", learns)
    monkeypatch.setattr(order, "train_and_ask", asks)
    found = scoring.score(experiment, {"0.5": 200})
    assert set(found.tried["0.5"]) == {"highest", "even", "lowest"}
    everything, others = learnt
    assert set(asked[0]) & set(everything), "the final weights are learnt from all"
    assert len(others)
    for rows in asked:
        assert not set(rows) & set(others)
    assert found.costs["order"]["runs"] == 4


def test_verifying_without_a_test_split_is_refused(tmp_path: Path) -> None:
    recipe = digits("data.test=null", "data.test_fraction=null", "prune.verify=true")
    with pytest.raises(SamaError, match="--verify measures on a test split"):
        prune(recipe, tmp_path / "out", device="cpu")


def test_another_order_must_be_clearly_better() -> None:
    generator = np.random.default_rng(0)
    ours = generator.random(400) < 0.7
    trust = [np.ones(200), np.ones(200)]

    def chosen(even: np.ndarray) -> str:
        agrees = {"highest": ours, "even": even, "lowest": ours & False}
        halves = {order: np.split(right, 2) for order, right in agrees.items()}
        return choose_order(halves, trust).chosen  # type: ignore[arg-type]

    assert chosen(ours) == "highest"
    one_more = ours.copy()
    one_more[np.flatnonzero(~ours)[:1]] = True
    assert chosen(one_more) == "highest", "a single row is within the error"
    many_more = ours | (generator.random(400) < 0.3)
    assert chosen(many_more) == "even"


def test_text_is_pruned_by_the_same_command(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(
        None,
        ["training.steps=5", "prune.keep=[0.5, 2]", "training.batch_size=16", "prune.folds=2"],
        {
            "data.train": str(texts["noisy"]),
            "data.meta": str(texts["clean"]),
            "model.name": str(tiny_bert),
        },
    )
    heard = Heard()
    result = prune(recipe, tmp_path / "out", device="cpu", progress=heard)
    assert result.kept == 200
    lost = [warning for warning in heard.warnings if "no example is left" in warning]
    assert len(lost) == 1, "at the first keep there is none"
    assert re.fullmatch(r"at keep 2 no example is left of: (sport|money|film); keep more", lost[0])
    assert len(datasets.load_dataset(str(tmp_path / "out" / "dataset"), split="train")) == 200
    assert not (tmp_path / "out" / "pictures").exists()
    examples = (tmp_path / "out" / "examples.md").read_text()
    for name in ("sport", "money", "film"):
        assert f"## {name}: highest" in examples
        assert f"## {name}: lowest" in examples


def test_more_than_there_is_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(SamaError, match=r"--keep 5000 asks for 5,000 rows, but the training split"):
        prune(digits("prune.keep=[5000]"), tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_copies_of_images_go_first(tmp_path: Path) -> None:
    """Half of the rows are copies of the other half, a little darker."""
    from sklearn.datasets import load_digits

    images = load_digits().images[:60]
    labels = load_digits().target[:60]
    rows = datasets.Dataset.from_dict(
        {
            "image": [
                np.repeat(np.repeat(part * image * 15, 2, 0), 2, 1).astype(np.uint8)
                for part in (1.0, 0.8)
                for image in images
            ],
            "label": [*labels, *labels],
        },
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=list("0123456789"))}
        ),
    )
    rows.to_parquet(tmp_path / "train.parquet")
    recipe = load_recipe(
        "demo-vision",
        [
            *TINY, "training.steps=5", "prune.keep=[0.5, 0.6]", "prune.duplicates=0.99",
            "prune.folds=2", "prune.scores=[ccs]", "data.source=auto", "data.meta=null",
            "data.meta_per_class=null", "data.noise={kind: none, rate: 0}",
            f"data.path={tmp_path}", "data.train=train.parquet", "data.test=null",
            "data.test_fraction=null", "data.columns.image=image", "data.columns.label=label",
        ],
    )  # fmt: skip
    heard = Heard()
    result = prune(recipe, tmp_path / "out", device="cpu", progress=heard)
    scores = pq.read_table(tmp_path / "out" / "scores.parquet").to_pandas()
    groups = scores["duplicates"].to_numpy()
    assert (groups[:60] == groups[60:]).all()
    assert len(np.unique(groups)) == 60
    assert scores["keep"].sum() == 60
    assert scores[scores["keep"]]["duplicates"].is_unique
    assert result.metrics["duplicates"] == {
        "cosine": 0.99,
        "copies": 60,
        "kept": {"0.5": 0, "0.6": 12},
    }
    assert any("60 of 120 training rows are near-duplicates" in note for note in heard.notes)
