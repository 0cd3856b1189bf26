"""How the clean set is used."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samacli.bilevel import beliefs
from samacli.bilevel.beliefs import Calibration, calibrate
from samacli.bilevel.level import MetaLevel
from samacli.bilevel.scored import Scored
from samacli.data.carve import halves
from samacli.errors import SamaError
from samacli.meta.label_corrector import label_likelihood
from samacli.methods import sama as module
from samacli.methods.sama import HELD_OUT_PER_CLASS, fit_sama
from samacli.recipe import Recipe, load_recipe
from samacli.training.experiment import Experiment
from tests.conftest import WORDS, text_recipe, write_csv


@pytest.mark.parametrize("balanced", [True, False])
def test_meta_batches_have_as_many_of_each_class_if_asked(
    texts: dict[str, Path], tiny_bert: Path, balanced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clean set has 40 of one class and 5 of each other."""
    names = list(WORDS)
    rows = [(WORDS[name][i % 6], name) for name in names for i in range(40)]
    rows = [row for i, row in enumerate(rows) if row[1] == names[0] or i % 8 == 0]
    write_csv(texts["clean"], rows)
    recipe = load_recipe(
        None,
        ["training.steps=4", "training.precision=fp32", "meta.batch_size=12", "meta.warmup=0"],
        {
            "meta.class_balanced": balanced,
            "data.train": str(texts["noisy"]),
            "data.meta": str(texts["clean"]),
            "model.name": str(tiny_bert),
        },
    )
    experiment = Experiment.prepare(recipe, device="cpu")
    seen = []

    class Watched(MetaLevel):
        def __init__(self, *arguments: object, batches: object, **options: object) -> None:
            def watched():  # type: ignore[no-untyped-def]
                for batch in batches:  # type: ignore[attr-defined]
                    seen.append(np.bincount(batch["labels"].numpy(), minlength=3))
                    yield batch

            super().__init__(*arguments, batches=watched(), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "MetaLevel", Watched)
    fit_sama(experiment, 0, "sama", features=["loss"])
    assert len(seen) > 1
    assert all((counts == 4).all() for counts in seen) == balanced


def test_an_unknown_key_of_the_meta_level_is_still_refused() -> None:
    with pytest.raises(SamaError, match=r"did you mean 'meta\.class_balanced'"):
        load_recipe(None, ["meta.classbalanced=true"])


def scored(experiment: Experiment) -> Scored:
    """What a run of the recipe's own settings says of the training rows."""
    config = experiment.recipe.reweight
    return fit_sama(experiment, 0, "sama", features=config.features, reweight=config)[1]


def watched_run(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Any]]:
    """Which clean rows each batch of the base level and of the meta level had."""
    experiment = Experiment.prepare(recipe, device="cpu")
    base: list[set[int]] = []
    meta: list[set[int]] = []
    run_loop = Experiment.run_loop

    def watched_loop(self: Experiment, model: Any, batches: Any, *rest: Any, **options: Any) -> Any:
        def watch() -> Any:
            for batch in batches:
                assert len(batch["index"]) == 16
                base.append(set(batch["clean"]["index"].tolist()) if "clean" in batch else set())
                yield batch

        return run_loop(self, model, watch(), *rest, **options)

    class Watched(MetaLevel):
        def __init__(self, *arguments: Any, batches: Any, **options: Any) -> None:
            def watch() -> Any:
                for batch in batches:
                    meta.append(set(batch["index"].tolist()))
                    yield batch

            super().__init__(*arguments, batches=watch(), **options)

    monkeypatch.setattr(Experiment, "run_loop", watched_loop)
    monkeypatch.setattr(module, "MetaLevel", Watched)
    scored(experiment)
    return base, meta


def test_no_clean_row_is_in_both_levels_while_the_reweighter_learns(
    texts: dict[str, Path], tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = text_recipe(
        texts, tiny_bert, "training.steps=20", "meta.warmup=0", "reweight.correction=true"
    )
    base, meta = watched_run(recipe, monkeypatch)
    learning = set().union(*base[:10])
    held_out = set().union(*meta)
    assert learning
    assert held_out
    assert not learning & held_out
    assert set().union(*base[10:]) == learning | held_out, "in the end the base level has all"


def test_with_a_share_of_zero_the_base_level_has_no_clean_row(
    texts: dict[str, Path], tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = text_recipe(
        texts, tiny_bert, "training.steps=4", "meta.warmup=0", "reweight.clean_share=0"
    )
    base, meta = watched_run(recipe, monkeypatch)
    assert base == [set()] * 4
    assert len(set().union(*meta)) > 20


def test_examples_without_a_label_take_part_through_correction_alone(
    texts: dict[str, Path], tiny_bert: Path
) -> None:
    rows = list(csv.reader(texts["noisy"].open(newline="")))
    column = rows[0].index("label")
    for row in rows[1:40]:
        row[column] = ""
    with texts["noisy"].open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    by_correction = {}
    for correction in (True, False):
        recipe = text_recipe(
            texts,
            tiny_bert,
            "training.steps=30",
            "data.abstain=keep",
            f"reweight.correction={correction}",
        )
        experiment = Experiment.prepare(recipe, device="cpu")
        by_correction[correction] = scored(experiment)
    assert (by_correction[True].weight[:39] > 0).all()
    assert by_correction[True].targets is not None
    np.testing.assert_allclose(by_correction[True].targets.sum(-1), 1, atol=1e-4)
    assert (by_correction[False].weight[:39] == 0).all()
    for one in by_correction.values():
        assert one.mislabelled is not None
        assert np.isnan(one.mislabelled[:39]).all()
        told = one.mislabelled[39:]
        if one.doubt is None:
            assert ((told >= 0) & (told <= 1)).all()
        else:  # so few steps may have taught nothing
            assert np.isnan(told).all()


@pytest.mark.parametrize(
    ("feature", "message"),
    [("votes", "only data in WRENCH's format"), ("prior", "a pretrained text model")],
)
def test_a_feature_that_the_data_cannot_give_is_refused_in_a_sentence(
    texts: dict[str, Path], tiny_bert: Path, feature: str, message: str
) -> None:
    recipe = text_recipe(texts, tiny_bert, f"reweight.features=[{feature}]", "reweight.prior=none")
    experiment = Experiment.prepare(recipe, device="cpu")
    with pytest.raises(SamaError, match=message):
        scored(experiment)


def test_history_prior_and_representation_can_all_be_features(
    texts: dict[str, Path], tiny_bert: Path
) -> None:
    recipe = text_recipe(
        texts,
        tiny_bert,
        "training.steps=12",
        "meta.warmup=0",
        "reweight.features=[loss, history, prior, representation]",
        "reweight.prior=linear",
    )
    experiment = Experiment.prepare(recipe, device="cpu")
    one = scored(experiment)
    assert np.isfinite(one.weight).all()
    assert one.weight.std() > 0


def test_the_clean_rows_that_the_base_level_may_see_tell_what_given_labels_are_worth(
    texts: dict[str, Path], tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(WORDS)
    with texts["clean"].open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    given = [(text, names[i % 3] if i % 5 else "", truth) for i, (text, truth) in enumerate(rows)]
    write_csv(texts["clean"], given, ("text", "label", "truth"))
    recipe = text_recipe(
        texts, tiny_bert, "training.steps=10", "meta.warmup=0", "reweight.correction=true"
    )
    experiment = Experiment.prepare(recipe, device="cpu")
    tables: list[torch.Tensor] = []

    class Watched(MetaLevel):
        def after_step(self, *arguments: Any) -> float:
            assert self.reweighter.corrector is not None
            meta_loss = super().after_step(*arguments)
            tables.append(self.reweighter.corrector.start.clone())
            return meta_loss

    seen: list[int] = []

    def watched_calibrate(raw: np.ndarray, wrong: np.ndarray) -> Calibration:
        seen.append(len(raw))
        return calibrate(raw, wrong)

    monkeypatch.setattr(module, "MetaLevel", Watched)
    monkeypatch.setattr(beliefs, "calibrate", watched_calibrate)
    one = scored(experiment)
    split = experiment.splits.meta
    assert split is not None
    assert split.given_labels is not None
    assert (split.given_labels == -1).any()
    base, held_out = halves(split.labels, 0, at_most=HELD_OUT_PER_CLASS)
    noisy = experiment.splits.train.labels
    marginal = torch.from_numpy(np.bincount(noisy, minlength=3) / len(noisy))

    def counted(chosen: np.ndarray) -> torch.Tensor:
        assert split.given_labels is not None
        return label_likelihood(
            torch.from_numpy(split.given_labels[chosen]),
            torch.from_numpy(split.labels[chosen]),
            marginal,
        )

    for table in tables[:4]:
        torch.testing.assert_close(table, counted(base))
    for table in tables[4:]:
        torch.testing.assert_close(table, counted(np.arange(len(split))))
    assert seen == [(split.given_labels[held_out] >= 0).sum()], "only what it was not trained on"
    assert one.mislabelled is not None
    assert np.isfinite(one.mislabelled).all()


def test_without_a_clean_set_no_one_knows_how_probably_a_label_is_wrong(
    texts: dict[str, Path], tiny_bert: Path
) -> None:
    recipe = text_recipe(texts, tiny_bert, "training.steps=3")
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"meta": None})})
    experiment = Experiment.prepare(recipe, device="cpu")
    _, one = fit_sama(experiment, 0, "sama", features=["loss"], reweight=recipe.reweight)
    assert one.mislabelled is None
    assert one.weight.mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("override", "adjusted"),
    [
        ("reweight.class_frequencies=auto", True),
        ("reweight.class_frequencies=clean", False),
        ("meta.class_balanced=true", False),
        ("reweight.correction=false", False),
    ],
)
def test_an_even_clean_set_does_not_teach_even_classes(
    override: str,
    adjusted: bool,
    texts: dict[str, Path],
    tiny_bert: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the training rows two thirds are of one class; the clean set has 20 of each."""
    names = list(WORDS)
    rows = [(WORDS[name][i % 6], name) for name in names for i in range(20)]
    write_csv(texts["clean"], rows)
    noisy = rows + [row for row in rows if row[1] == names[0]] * 3
    # Other texts than the clean rows', or they would be known.
    write_csv(texts["noisy"], [(f"{x} a", y, y) for x, y in noisy], ("text", "label", "truth"))
    settings = ["reweight.correction=true", "reweight.prior=linear", override]
    recipe = text_recipe(texts, tiny_bert, "training.steps=4", "meta.warmup=0.9", *settings)
    offsets = []

    class Watched(MetaLevel):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            offsets.append(self.offset)

    monkeypatch.setattr(module, "MetaLevel", Watched)
    experiment = Experiment.prepare(recipe, device="cpu")
    scored(experiment)
    offset = torch.as_tensor(offsets[0])
    assert bool(offset.any()) == adjusted
    if adjusted:
        common = experiment.splits.classes.index(names[0])
        assert int(offset.argmin()) == common


def test_frequencies_that_cannot_be_estimated_are_said_to_be(
    texts: dict[str, Path], tiny_bert: Path
) -> None:
    recipe = text_recipe(texts, tiny_bert, "reweight.class_frequencies=training")
    with pytest.raises(SamaError, match=r"leave it at auto, or give .*reweight\.prior=linear"):
        scored(Experiment.prepare(recipe, device="cpu"))
