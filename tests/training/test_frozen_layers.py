"""`model.cache_frozen`: the frozen lower layers are passed once, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoModelForSequenceClassification

from samacli.errors import SamaError
from samacli.models import save_model
from samacli.models.frozen_layers import put_back
from samacli.recipe import Recipe
from samacli.runs.reweight import reweight
from samacli.training.experiment import Experiment


def recipe_of(texts: dict[str, Path], tiny_bert: Path, **model: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "data": {
                "train": str(texts["noisy"]),
                "meta": str(texts["clean"]),
                "test": str(texts["test"]),
                "max_length": 16,
            },
            "model": {"name": str(tiny_bert), **model},
            "training": {"steps": 3, "batch_size": 8},
            "meta": {"batch_size": 4, "warmup": 0.0},
            "reweight": {"baselines": ["noisy", "mixed", "linear-probe"]},
        }
    )


FROZEN = {"freeze": ["*embeddings*", "*layer.0.*"]}


def test_a_cut_model_gives_the_logits_of_the_whole_one(
    texts: dict[str, Path], tiny_bert: Path
) -> None:
    whole = Experiment.prepare(recipe_of(texts, tiny_bert, **FROZEN))
    cut = Experiment.prepare(recipe_of(texts, tiny_bert, **FROZEN, cache_frozen=True))
    assert cut.cached_layers == 1
    expected = whole.predict(whole.new_model(0), whole.train_and_meta, "whole")
    found = cut.predict(cut.new_model(0), cut.train_and_meta, "cut")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_exported_model_is_whole_again(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    cut = Experiment.prepare(recipe_of(texts, tiny_bert, **FROZEN, cache_frozen=True))
    run = cut.fit_plainly(cut.train, 0, "noisy")
    expected = cut.predict(run.model, cut.train, "trained")
    save_model(run.model, cut.processor, tmp_path / "model")
    read = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    whole = Experiment.prepare(recipe_of(texts, tiny_bert, **FROZEN))
    fresh = dict(put_back(cut.new_model(1)).named_parameters())
    for name, value in read.named_parameters():
        if "embeddings" in name or "layer.0." in name:
            np.testing.assert_array_equal(value.detach(), fresh[name].detach())
    np.testing.assert_allclose(
        whole.predict(read, whole.train, "read"), expected, rtol=1e-4, atol=1e-5
    )


def test_reweight_runs_on_cached_layers(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    result = reweight(recipe_of(texts, tiny_bert, **FROZEN, cache_frozen=True), tmp_path / "out")
    assert set(result.methods) == {
        "noisy",
        "mixed",
        "linear-probe",
        "sama",
        "export",
    }


def test_nothing_frozen_is_refused_by_name(texts: dict[str, Path], tiny_bert: Path) -> None:
    with pytest.raises(SamaError, match=r"cache_frozen.*model\.freeze"):
        Experiment.prepare(recipe_of(texts, tiny_bert, cache_frozen=True))


def test_states_beyond_the_memory_limit_are_not_kept(
    texts: dict[str, Path], tiny_bert: Path
) -> None:
    recipe = recipe_of(texts, tiny_bert, **FROZEN, cache_frozen=True)
    data = recipe.data.model_copy(update={"memory_limit_mb": 0})
    experiment = Experiment.prepare(recipe.model_copy(update={"data": data}))
    assert experiment.cached_layers == 0
