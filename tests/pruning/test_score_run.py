"""All scores from one run on real images: none is missing, and those that find wrong labels do."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from samacli.errors import SamaError
from samacli.pruning import scores as pruning_scores
from samacli.pruning.scores import Prototypes, make_scores, results
from samacli.recipe import load_recipe
from samacli.registry import RUN_SCORES
from samacli.training.embed import classifier_features
from samacli.training.experiment import Experiment


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
    scores = make_scores(digits, 0, RUN_SCORES)
    run = digits.fit_plainly(digits.train, 0, "scores", observers=list(scores.values()))
    return results(digits, scores, run.model)


def test_every_row_has_every_score(digits: Experiment, scored: dict[str, np.ndarray]) -> None:
    assert tuple(scored) == RUN_SCORES
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
    monkeypatch.setattr(pruning_scores, "PROTOTYPE_SAMPLE", 100)
    model = digits.new_model(0)
    scores = make_scores(digits, 0, ["prototypes"])
    found = results(digits, scores, model)["prototypes"]
    features = digits.predict(model, digits.train, "features", output=classifier_features)
    assert isinstance(scores["prototypes"], Prototypes)
    centroids = scores["prototypes"]._centroids
    assert centroids is not None
    assert len(centroids) == 10
    expected = np.linalg.norm(features[:, None] - centroids[None], axis=-1).min(1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_unknown_score_is_refused_with_the_nearest(digits: Experiment) -> None:
    with pytest.raises(SamaError, match=r"no score 'forgeting' .*did you mean 'forgetting'\?"):
        make_scores(digits, 0, ["el2n", "forgeting"])
