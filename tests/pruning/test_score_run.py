"""All scores from one run on real images: none is missing, and those that find wrong labels do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from samacli.pruning.scores import SCORES
from samacli.recipe import load_recipe
from samacli.runs import score_run
from samacli.runs.score_run import score_training_set
from samacli.training.experiment import Experiment
from samacli.training.last_layer import classifier_features
from samacli.training.loop import Fit


@pytest.fixture(scope="module")
def digits() -> Experiment:
    recipe = load_recipe(
        "demo-vision",
        [
            "training.steps=120",
            "model.config={hidden_sizes: [16, 32], depths: [1, 1], embedding_size: 16}",
            "data.max_train_rows=500",
        ],
    )
    return Experiment.prepare(recipe, device="cpu")


@pytest.fixture(scope="module")
def scored(digits: Experiment) -> dict[str, np.ndarray]:
    return score_training_set(digits, 0, list(SCORES))


def test_every_row_has_every_score(digits: Experiment, scored: dict[str, np.ndarray]) -> None:
    assert list(scored) == list(SCORES)
    for name, scores in scored.items():
        assert scores.shape == (500,), name
        assert np.isfinite(scores).all(), name
        assert len(np.unique(scores)) > 3, name


def test_wrong_labels_are_hard_for_the_scores_that_take_labels(
    digits: Experiment, scored: dict[str, np.ndarray]
) -> None:
    train = digits.splits.train
    assert train.true_labels is not None
    wrong = train.labels != train.true_labels
    found = {name: roc_auc_score(wrong, scores) for name, scores in scored.items()}
    assert found["aum"] < 0.1, "AUM keeps clear labels"
    for name in ("el2n", "grand"):
        assert found[name] > 0.6, (name, found[name])
    assert found["forgetting"] > 0.6
    assert 0.35 < found["random"] < 0.65


def test_prototypes_of_a_sample_measure_all_rows(
    digits: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_run, "PROTOTYPE_SAMPLE", 100)
    model = digits.new_model(0)
    scores = score_run.make_rivals(digits, 0, ["prototypes"])
    found = score_run.results(digits, scores, model)["prototypes"]
    features = digits.predict(model, digits.train, "features", output=classifier_features)
    centroids = scores["prototypes"]._centroids.numpy()  # type: ignore[attr-defined]
    assert len(centroids) == 10
    expected = np.linalg.norm(features[:, None] - centroids[None], axis=-1).min(1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_sama_is_one_of_them_and_its_run_can_be_shared(
    digits: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    run_loop = Experiment.run_loop

    def counted(self: Experiment, *args: Any, **options: Any) -> Fit:
        runs.append(args[2])
        return run_loop(self, *args, **{**options, "steps": 6})

    monkeypatch.setattr(Experiment, "run_loop", counted)
    alone = score_training_set(digits, 0, ["sama", "aum"])
    assert [level is not None for level in runs] == [True, False], "a plain run for the rivals"
    shared = score_training_set(digits, 0, ["aum", "sama", "prototypes"], in_sama_run=True)
    assert [level is not None for level in runs] == [True, False, True]
    assert list(shared) == ["aum", "sama", "prototypes"]
    np.testing.assert_array_equal(shared["sama"], alone["sama"])
    assert not np.array_equal(shared["aum"], alone["aum"]), "its losses are weighted"
    score_training_set(digits, 0, ["random"])
    assert len(runs) == 3, "a random order takes no run"
