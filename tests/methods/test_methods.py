"""Every rival against what it is said to be, by the libraries that it stands on."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from samacli.bilevel import level
from samacli.errors import SamaError
from samacli.meta import Clip, direction
from samacli.methods import check_methods, run_method
from samacli.models import load_model, load_processor
from samacli.recipe import Recipe, load_recipe
from samacli.recipe.schema import ReweightBaseline
from samacli.registry import METHODS, OURS, load
from samacli.training.experiment import Experiment
from samacli.training.objective import ForwardCorrection
from tests.conftest import make_texts, sentences, text_recipe, write_csv

STEPS = 12
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def recipe(texts: dict[str, Path], model: Path, *overrides: str) -> Recipe:
    return text_recipe(texts, model, f"training.steps={STEPS}", *overrides)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Experiment:
    texts = make_texts(tmp_path_factory.mktemp("methods"))
    return Experiment.prepare(recipe(texts, tiny_bert), device="cpu")


class Spied:
    """Calls of one method of an experiment, which still does what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, experiment: Experiment, name: str) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any], Any]] = []
        original = getattr(experiment, name)

        def call(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            self.calls.append((arguments, options, result))
            return result

        monkeypatch.setattr(experiment, name, call)


def test_every_method_but_ours_is_a_baseline() -> None:
    assert set(get_args(ReweightBaseline)) == set(METHODS) - set(OURS)
    for name, method in METHODS.items():
        assert method.description, name
        assert callable(load(method.where)), name
        assert method.check is None or callable(load(method.check)), name


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_runs_and_says_what_it_took(experiment: Experiment, name: str) -> None:
    run = run_method(experiment, name, seed=1)
    assert (run.name, run.seed) == (name, 1)
    assert run.evaluation is not None
    assert 0 <= run.evaluation.accuracy <= 1
    assert run.seconds > 0
    assert run.samples_per_second > 0
    assert run.peak_memory_bytes > 0
    parts = {"confident-learning": 4, "linear-probe": 0, "linear-probe-noisy": 0}
    assert run.steps == parts.get(name, 1) * STEPS
    assert (run.model is None) == name.startswith("linear-probe")
    learns = name.startswith("sama") or name == "no-meta-steps"
    assert (run.scored is not None) == learns
    assert (run.noise is not None) == (learns or name == "confident-learning")


def test_rows_seen_are_those_that_went_through_the_model_and_back(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the model itself was given while gradients were asked for."""
    seen = 0

    def watched(module: torch.nn.Module, _: Any, inputs: dict[str, Any]) -> None:
        nonlocal seen
        if torch.is_grad_enabled() and module.training:
            seen += len(inputs["input_ids"])

    original = experiment.new_model

    def new_model(seed: int) -> Any:
        model = original(seed)
        model.register_forward_pre_hook(watched, with_kwargs=True)
        return model

    monkeypatch.setattr(experiment, "new_model", new_model)
    batch = experiment.recipe.training.batch_size
    clean = min(batch, len(experiment.clean))
    expected = {
        "noisy": STEPS * batch,
        "noisy-then-clean": STEPS * batch,
        "mixed": STEPS * (batch + clean),
        "forward-correction": STEPS * (batch + clean),
        "confident-learning": 4 * STEPS * batch,
    }
    for name, rows in expected.items():
        seen = 0
        run = run_method(experiment, name, 0)
        assert run.rows_seen == rows == seen, name
    for name in ("linear-probe", "linear-probe-noisy"):
        assert run_method(experiment, name, 0).rows_seen == 0
    # Of the base level as many as mixed; the meta batches come on top.
    still = run_method(experiment, "no-meta-steps", 0)
    assert still.rows_seen == expected["mixed"]
    assert np.isnan([meta for *_, meta in still.curve]).all()
    learnt = run_method(experiment, "sama", 0)
    meta_steps = int(np.isfinite([meta for *_, meta in learnt.curve]).sum())
    assert meta_steps > 0
    held_out = sum(-(-n // 2) for n in np.bincount(experiment.clean.labels))
    meta_batch = min(experiment.recipe.meta.batch_size, held_out)
    assert learnt.rows_seen == expected["mixed"] + meta_steps * meta_batch


def test_without_meta_steps_nothing_else_is_different(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate of 0 learns nothing either: then both are one and the same run."""
    # A pass that the meta step rides on draws other dropout masks.
    model = experiment.recipe.model.model_copy(update={"config": NO_DROPOUT})
    stays = {"learning_rate": 0.0, "reweighter": "stepwise"}
    frozen = experiment.recipe.meta.model_copy(update=stays)
    recipe = experiment.recipe.model_copy(update={"meta": frozen, "model": model})
    monkeypatch.setattr(experiment, "recipe", recipe)
    still = run_method(experiment, "no-meta-steps", 0)
    unmoved = run_method(experiment, "sama", 0)
    assert still.scored is not None
    assert unmoved.scored is not None
    np.testing.assert_allclose(still.scored.weight, unmoved.scored.weight, rtol=1e-4)
    losses = [[loss for _, loss, _ in run.curve] for run in (still, unmoved)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_the_meta_step_is_told_how_the_gradient_was_clipped(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0.01
    training = experiment.recipe.training.model_copy(update={"clip_norm": most})
    recipe = experiment.recipe.model_copy(update={"training": training})
    monkeypatch.setattr(experiment, "recipe", recipe)
    told: list[tuple[float, Clip | None]] = []

    def watched(problem: Any, *arguments: Any, clip: Clip | None, **options: Any) -> Any:
        gradients = [p.grad for p in problem.model.parameters() if p.grad is not None]
        told.append((float(torch.nn.utils.get_total_norm(gradients)), clip))
        return direction(problem, *arguments, clip=clip, **options)

    monkeypatch.setattr(level, "direction", watched)
    run_method(experiment, "sama", 0)
    assert told
    for taken, clip in told:
        assert clip is not None
        assert clip.most == most
        assert float(clip.factor * clip.norm) == pytest.approx(taken, rel=1e-4)
        assert taken == pytest.approx(most, rel=1e-3)


def test_clean_rows_beside_a_batch_have_their_share_of_its_gradient(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step of plain SGD, against the gradient of the loss written out."""
    share, rate = 0.3, 0.5
    changed = {
        "training": {"steps": 1, "warmup": 0.0, "schedule": "constant", "clip_norm": None},
        "reweight": {"clean_share": share, "clean_batch_size": 5},
        "model": {"config": NO_DROPOUT},
    }
    content = experiment.recipe.model_dump()
    for section, values in changed.items():
        content[section] |= values
    content["training"]["optimizer"] = {"name": "sgd", "learning_rate": rate, "momentum": 0.0,
                                        "weight_decay": 0.0}  # fmt: skip
    monkeypatch.setattr(experiment, "recipe", Recipe(**content))
    spied = Spied(monkeypatch, experiment, "endless")
    run = run_method(experiment, "mixed", 0)
    (train, *_), (clean, *_) = (call[0] for call in spied.calls)
    assert train is experiment.train
    assert clean is experiment.clean
    # The same streams once more, from their beginning.
    batches = [experiment.endless(*call[0], **call[1]) for call in spied.calls[:2]]
    noisy, beside = (next(stream) for stream in batches)
    assert len(beside["labels"]) == 5
    model = experiment.new_model(0)

    def loss(batch: dict[str, Any]) -> torch.Tensor:
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "index")}
        return torch.nn.functional.cross_entropy(model(**inputs).logits, batch["labels"])

    ((1 - share) * loss(noisy) + share * loss(beside)).backward()
    assert run.model is not None
    for before, after in zip(model.parameters(), run.model.parameters(), strict=True):
        moved = torch.zeros_like(before) if before.grad is None else before.grad
        torch.testing.assert_close(after, before - rate * moved, rtol=1e-3, atol=1e-5)


def test_forward_correction_asks_for_the_true_class() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    transition = torch.rand(3, 3, generator=generator, dtype=torch.float64)
    transition /= transition.sum(0)  # of given labels, for each true class
    labels = torch.tensor([0, 1, 2, -1, 1, 0, 2])
    found = ForwardCorrection(transition.log())(logits, {"labels": labels})
    told = labels >= 0
    given = (logits.softmax(-1) @ transition.T)[told, labels[told]]
    torch.testing.assert_close(found, -given.log().mean())


def test_after_sama_the_clean_set_goes_on_with_its_model(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = Spied(monkeypatch, experiment, "run_loop")
    run = run_method(experiment, "sama-then-clean", 0)
    first, second = loops.calls
    assert (first[1]["steps"], second[1]["steps"]) == (STEPS // 2, STEPS // 2)
    assert first[0][2] is not None
    assert second[0][2] is None
    assert second[0][0] is first[2].model is run.model


def test_methods_without_clean_data_run_without(texts: dict[str, Path], tiny_bert: Path) -> None:
    chosen = recipe(texts, tiny_bert, "training.steps=2")
    data = chosen.data.model_copy(update={"meta": None})
    alone = Experiment.prepare(chosen.model_copy(update={"data": data}), device="cpu")
    for name, method in METHODS.items():
        if method.uses_clean:
            with pytest.raises(SamaError, match=f"{name} uses a clean set"):
                run_method(alone, name, 0)
        else:
            assert run_method(alone, name, 0).evaluation is not None


@pytest.mark.parametrize("name", ["clean-then-noisy", "noisy-then-clean"])
def test_sequential_training_goes_on_with_the_same_model(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spied = Spied(monkeypatch, experiment, "fit_plainly")
    run = run_method(experiment, name, 0)
    (first, second) = spied.calls
    order = [experiment.meta, experiment.train]
    if name == "noisy-then-clean":
        order.reverse()
    assert [first[0][0], second[0][0]] == order
    assert [first[1]["steps"], second[1]["steps"]] == [STEPS // 2, STEPS // 2]
    assert second[1]["model"] is first[2].model is run.model


def test_early_stopping_looks_at_the_clean_set_alone(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    spied = Spied(monkeypatch, experiment, "predict")
    run = run_method(experiment, "early-stopping", 0)
    *looks, test = spied.calls
    assert all(call[0][1] is experiment.meta for call in looks)
    assert test[0][1] is experiment.test
    truth = experiment.clean.labels
    accuracies = [(logits.argmax(-1) == truth).mean() for _, _, logits in looks]
    assert run.model is not None
    kept = experiment.predict(run.model, experiment.clean, "").argmax(-1)
    assert (kept == truth).mean() == max(accuracies)


def test_confident_learning_is_cleanlabs_on_out_of_sample_probabilities(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    fits = Spied(monkeypatch, experiment, "fit_plainly")
    predictions = Spied(monkeypatch, experiment, "predict")
    run = run_method(experiment, "confident-learning", 0)
    labels, truth = experiment.splits.train.labels, experiment.splits.train.true_labels
    assert truth is not None
    probabilities = np.full((len(labels), 3), np.nan)
    for fit, prediction in zip(fits.calls[:3], predictions.calls[:3], strict=True):
        seen, unseen = fit[1]["rows"], prediction[1]["rows"]
        assert prediction[0][0] is fit[2].model
        assert not set(seen) & set(unseen)
        assert np.isnan(probabilities[unseen]).all(), "every row is left out once"
        probabilities[unseen] = torch.tensor(prediction[2]).double().softmax(-1).numpy()
    issues = find_label_issues(labels, probabilities, n_jobs=1)
    assert fits.calls[3][1]["rows"].tolist() == np.flatnonzero(~issues).tolist()
    quality = get_label_quality_scores(labels, probabilities)
    assert run.noise is not None
    assert run.noise["average_precision"] == pytest.approx(
        average_precision_score(labels != truth, -quality)
    )
    assert run.noise["auroc"] == pytest.approx(roc_auc_score(labels != truth, -quality))
    assert run.noise["noise_rate"] == 0.25


@pytest.mark.parametrize("name", ["linear-probe", "linear-probe-noisy"])
def test_a_linear_probe_is_logistic_regression_on_mean_embeddings(
    experiment: Experiment, tiny_bert: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, splits = experiment.recipe, experiment.splits
    tokenizer = load_processor(config.model, config.task)
    backbone = load_model(config.model, config.task, splits.classes).base_model.eval()

    def embed(texts: list[str]) -> np.ndarray:
        rows = []
        for text in texts:  # one at a time: nothing is padded
            with torch.no_grad():
                words = tokenizer(text, return_tensors="pt")
                output = backbone(**words, output_hidden_states=True)
            rows.append(output.hidden_states[-2][0].mean(0).numpy())
        return np.stack(rows)

    split = splits.meta if name == "linear-probe" else splits.train
    assert split is not None
    assert splits.test is not None
    train, test = embed(list(split.rows["text"])), embed(list(splits.test.rows["text"]))
    assert experiment.test is not None
    ours = experiment.embed(experiment.new_model(0), experiment.test, "", layer=-2)
    np.testing.assert_allclose(ours, test, rtol=1e-4, atol=1e-5)
    strengths = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    probes = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)) for c in strengths
    ]
    means = [cross_val_score(probe, train, split.labels, cv=folds).mean() for probe in probes]
    best = int(np.argmax(means))
    assert max(means) > min(means), "all are alike: this says nothing"
    predicted = probes[best].fit(train, split.labels).predict(test)

    searches: list[GridSearchCV] = []
    fit = GridSearchCV.fit

    def recorded(search: GridSearchCV, *arguments: Any, **options: Any) -> GridSearchCV:
        searches.append(search)
        return fit(search, *arguments, **options)

    monkeypatch.setattr(GridSearchCV, "fit", recorded)
    evaluation = run_method(experiment, name, 0).evaluation
    assert evaluation is not None
    assert searches[0].best_params_["logisticregression__C"] == pytest.approx(strengths[best])
    assert evaluation.accuracy == pytest.approx(accuracy_score(splits.test.labels, predicted))


def test_images_are_probed_too(tmp_path: Path) -> None:
    chosen = load_recipe(
        "demo-vision", ["training.steps=1", "data.max_train_rows=60", "training.precision=fp32"]
    )
    images = Experiment.prepare(chosen, device="cpu")
    features = images.embed(images.new_model(0), images.train, "")
    assert features.shape[0] == len(images.train)
    assert np.isfinite(features).all()


def test_without_cleanlab_the_mend_is_named(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "cleanlab" else found(name)
    )
    with pytest.raises(SamaError, match=r"cleanlab.*samacli\[rivals\]"):
        check_methods(experiment, ["noisy", "confident-learning"])


def test_too_few_rows_are_refused_before_anything_runs(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    few = [("ball goal", "sport"), ("bank stock", "money"), ("actor scene", "film")]
    files = {**texts, "clean": write_csv(tmp_path / "few.csv", few)}
    small = Experiment.prepare(recipe(files, tiny_bert), device="cpu")
    with pytest.raises(SamaError, match=r"linear-probe .*two classes of two rows.*clean set"):
        check_methods(small, ["noisy", "linear-probe"])
    rows = [(text, label, label) for text, label in few]
    files["noisy"] = write_csv(tmp_path / "three.csv", rows, ("text", "label", "truth"))
    small = Experiment.prepare(recipe(files, tiny_bert), device="cpu")
    with pytest.raises(SamaError, match=r"in 3 folds.*three\.csv has 1 row;"):
        check_methods(small, ["confident-learning"])
    with pytest.raises(SamaError, match="did you mean 'mixed'"):
        check_methods(small, ["mixd"])


def test_early_stopping_for_every_method_takes_the_validation_split(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = write_csv(tmp_path / "held_out.csv", sentences(40, seed=3))
    chosen = recipe(texts, tiny_bert, "training.early_stopping=true", f"data.validation={held_out}")
    careful = Experiment.prepare(chosen, device="cpu")
    assert careful.sizes["validation"] == 40
    for name in ("noisy", "sama"):
        with monkeypatch.context() as patch:
            spied = Spied(patch, careful, "predict")
            run = run_method(careful, name, 0)
        looked = [call for call in spied.calls if call[0][2] == "validating"]
        assert len(looked) == 10
        assert all(call[0][1] is careful.validation for call in looked)
        assert careful.validation is not None
        truth = careful.validation.labels
        assert run.model is not None
        kept = careful.predict(run.model, careful.validation, "").argmax(-1)
        assert (kept == truth).mean() == max((c[2].argmax(-1) == truth).mean() for c in looked)


@pytest.mark.parametrize(
    ("validation", "says"), [(None, "name them in data.validation"), ("test", "data.test are both")]
)
def test_early_stopping_needs_rows_of_its_own(
    texts: dict[str, Path], tiny_bert: Path, validation: str | None, says: str
) -> None:
    extra = [] if validation is None else [f"data.validation={texts[validation]}"]
    with pytest.raises(SamaError, match=says):
        recipe(texts, tiny_bert, "training.early_stopping=true", *extra)


def test_metrics_tell_how_each_method_finds_wrong_labels(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    from samacli.runs.reweight import reweight

    chosen = recipe(texts, tiny_bert, "reweight.baselines=[noisy,confident-learning]")
    reweight(chosen, tmp_path / "out", device="cpu")
    methods = json.loads((tmp_path / "out" / "metrics.json").read_text())["methods"]
    assert list(methods) == ["noisy", "confident-learning", "sama", "export"]
    assert "noise_detection" not in methods["noisy"]
    for name in ("confident-learning", "sama"):
        found = methods[name]["noise_detection"]
        assert {"noise_rate", "average_precision", "auroc"} <= set(found)
        assert found["noise_rate"] == [0.25]
