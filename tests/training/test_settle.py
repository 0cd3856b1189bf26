"""What `auto` comes to: rules of data, model and device, told with their reasons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from samacli.recipe import Recipe, load_recipe
from samacli.training.settle import MOST_STEPS, Resolved, settle

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """A folder with a config alone, of a model so wide and so deep."""

    def make(width: int, layers: int, kind: str = "bert") -> str:
        folder = tmp_path / f"{kind}-{width}-{layers}"
        folder.mkdir()
        values = {"model_type": kind, "hidden_size": width, "num_hidden_layers": layers}
        (folder / "config.json").write_text(json.dumps(values))
        return str(folder)

    return make


def found(recipe: Recipe, rows: int, device: torch.device = CPU, processes: int = 1) -> Any:
    recipe, resolved = settle(recipe, rows, device, processes)
    assert all(one.why for one in resolved)
    return recipe, {one.key: one for one in resolved}


@pytest.mark.parametrize(
    ("width", "rate"), [(768, 5e-5), (384, 2e-4), (1024, 2.8e-5), (4096, 1e-5), (128, 5e-4)]
)
def test_the_learning_rate_falls_with_the_square_of_the_width(
    config: Any, width: int, rate: float
) -> None:
    recipe = load_recipe(None, [f"model.name={config(width, 6)}"])
    settled, resolved = found(recipe, 5_000)
    assert settled.training.optimizer.learning_rate == pytest.approx(rate)
    assert str(width) in resolved["training.optimizer.learning_rate"].why


def test_few_rows_have_a_floor_of_steps_and_many_a_ceiling(config: Any) -> None:
    recipe = load_recipe(None, [f"model.name={config(384, 6)}"])
    few, resolved = found(recipe, 500)
    assert few.training.steps == 200
    assert "6.4 passes over 500 rows" in resolved["training.steps"].why
    assert found(recipe, 32_000)[0].training.steps == 4_000  # two passes in batches of 16
    assert found(recipe, 32_000, processes=4)[0].training.steps == 1_000
    assert found(recipe, 32_000, GPU)[0].training.steps == 2_000  # of 32
    said = load_recipe(None, [f"model.name={recipe.model.name}", "training.batch_size=8"])
    assert found(said, 32_000)[0].training.steps == 8_000
    assert found(recipe, 10**8)[0].training.steps == MOST_STEPS
    assert found(recipe, 1)[0].training.steps == 200


def test_what_is_said_stays_as_it_is(config: Any) -> None:
    said = ["training.epochs=3", "training.optimizer.learning_rate=1e-3", "model.freeze=[]",
            "training.optimizer.name=adam", "training.optimizer.weight_decay=0.1", "meta.unroll=3",
            "training.batch_size=32",
            "model.cache_frozen=false", f"model.name={config(384, 6)}"]  # fmt: skip
    recipe = load_recipe(None, said)
    settled, resolved = found(recipe, 500)
    assert settled == recipe
    assert not resolved
    settled, resolved = found(load_recipe(None, ["training.steps=7"]), 500)
    assert settled.training.steps == 7
    assert "training.steps" not in resolved


def test_lower_layers_are_frozen_on_a_cpu_where_they_can_be_taken_off(config: Any) -> None:
    bert = load_recipe(None, [f"model.name={config(384, 6)}"])
    settled, _ = found(bert, 500)
    assert settled.model.cache_frozen is True
    frozen = ["embeddings.word_embeddings.weight", "encoder.layer.0.x", "encoder.layer.3.x"]
    from fnmatch import fnmatch

    def is_frozen(name: str) -> bool:
        return any(fnmatch(f"bert.{name}", pattern) for pattern in settled.model.freeze)

    assert all(map(is_frozen, frozen))
    assert not any(map(is_frozen, ["encoder.layer.4.x", "encoder.layer.5.x", "pooler.x"]))
    # Twelve layers: layer 1 is frozen, layers 10 and 11 are not.
    settled, _ = found(load_recipe(None, [f"model.name={config(768, 12)}"]), 500)
    assert is_frozen("encoder.layer.1.x")
    assert not is_frozen("encoder.layer.10.x")
    for other in (
        found(bert, 500, GPU)[0],
        found(load_recipe(None, [f"model.name={config(384, 6, 'deberta-v2')}"]), 500)[0],
        found(load_recipe(None, [f"model.name={config(128, 2)}"]), 500)[0],
    ):
        assert other.model.freeze == []
        assert other.model.cache_frozen is False


@pytest.mark.parametrize(("steps", "unroll"), [(7, 1), (199, 1), (200, 2), (950, 9), (10_000, 10)])
def test_about_a_hundred_meta_steps_are_taken(steps: int, unroll: int) -> None:
    said = ["task=image-classification", "model.name=resnet8-small"]
    by_steps = load_recipe(None, [*said, f"training.steps={steps}"])
    assert found(by_steps, 500)[0].meta.unroll == unroll
    by_epochs = load_recipe(None, [*said, f"training.epochs={steps}"])
    assert found(by_epochs, 32)[0].meta.unroll == unroll
    assert found(load_recipe(None, [*said, "meta.unroll=3"]), 500)[0].meta.unroll == 3


def test_images_from_scratch_are_trained_by_sgd() -> None:
    recipe = load_recipe(None, ["task=image-classification", "model.name=resnet8-small"])
    settled, _ = found(recipe, 1_250)
    optimizer = settled.training.optimizer
    assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == ("sgd", 0.05, 5e-4)
    assert settled.training.steps == 586  # fifteen passes
    assert settled.model.freeze == []


def test_an_optimiser_without_weight_decay_has_none() -> None:
    said = [
        "training.optimizer.name=Rprop",
        "task=image-classification",
        "model.name=resnet8-small",
    ]
    assert found(load_recipe(None, said), 100)[0].training.optimizer.weight_decay == 0


def test_no_auto_is_left_where_training_begins(config: Any) -> None:
    settled, _ = found(load_recipe(None, [f"model.name={config(384, 6)}"]), 500)
    training = settled.model_dump()["training"]
    assert "auto" not in training["optimizer"].values()
    assert training["batch_size"] == 16
    assert training["steps"] is not None
    assert "auto" not in (settled.model.freeze, settled.model.cache_frozen)


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e-4, "0.0002"), (True, "true"), ([], "[]"), (["a", "b"], "[a, …]"), (["a"], "['a']")],
)
def test_values_are_shown_in_a_few_characters(value: Any, text: str) -> None:
    assert Resolved("key", value, "because").text == text
