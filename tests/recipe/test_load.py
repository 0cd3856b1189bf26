"""Recipes: every wrong one is refused by name, every right one survives a round trip."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from samacli.errors import SamaError
from samacli.recipe import (
    Recipe,
    built_in_recipes,
    dump_recipe,
    load_recipe,
    recipe_path,
    resolve_paths,
)
from samacli.recipe.load import read_yaml, validate


@pytest.mark.parametrize("name", sorted(built_in_recipes()))
def test_every_built_in_recipe_is_valid_and_described(name: str) -> None:
    assert load_recipe(name).description
    assert recipe_path(name).read_text().startswith("#"), "a head says needs, time and results"


@pytest.mark.parametrize("name", sorted(built_in_recipes()))
def test_a_resolved_recipe_reads_back_unchanged(name: str) -> None:
    recipe = load_recipe(name)
    assert validate(read_yaml(dump_recipe(recipe), "copy"), "copy") == recipe


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("traning.steps=3", "unknown key traning; did you mean 'training'?"),
        ("training.step=3", "unknown key training.step; did you mean 'training.steps'?"),
        ("unroll=3", "did you mean 'meta.unroll'?"),
        ("training.steps=many", "training.steps: should be a valid integer"),
        ("training.steps=0", "training.steps: should be greater than or equal to 1, got 0"),
        ("training.optimizer.learning_rate=-1", "training.optimizer.learning_rate: should be"),
        ("data.noise.rate=0.3", "data.noise: rate is above 0 but kind is 'none'"),
        ("data.noise={kind: symetric}", "did you mean 'symmetric'?"),
        ("prune.keep=[1.5]", "keep 1.5 is neither a fraction"),
        ("prune.keep=[0]", "prune.keep.0: should be greater than 0"),
        ("data.meta=train", "meta_per_class must say how much"),
        ("seed.x=1", "seed: "),
        ("model.name=[a", "is not valid YAML"),
        ("word", "is not an override; write KEY=VALUE"),
        ("=3", "is not an override"),
    ],
)
def test_a_wrong_override_names_the_key_and_what_was_expected(override: str, said: str) -> None:
    with pytest.raises(SamaError) as error:
        load_recipe(None, [override])
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_value_cannot_be_set_inside_a_value(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 3\n")
    with pytest.raises(SamaError, match=r"cannot set seed\.x: seed holds a value"):
        load_recipe(str(file), ["seed.x=1"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is not valid YAML"),
        ("- a\n- b\n", "must be a mapping"),
        ("seed: 1\nseed: 2\n", "the key 'seed' stands twice"),
        ("seed: 1\nfoo: !!python/object:os.system {}\n", "is not valid YAML"),
        ("description: 2024-99-99\n", "is not valid YAML"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(SamaError) as error:
        load_recipe(str(file))
    assert said in str(error.value)
    assert "broken.yaml" in str(error.value)


def test_missing_recipes_are_named(tmp_path: Path) -> None:
    with pytest.raises(SamaError, match="no recipe 'demo-txt'; did you mean 'demo-text'"):
        load_recipe("demo-txt")
    with pytest.raises(SamaError, match="does not exist"):
        load_recipe(str(tmp_path / "nowhere.yaml"))
    with pytest.raises(SamaError, match="is a directory"):
        load_recipe(str(tmp_path))


def test_an_exponent_without_a_dot_is_a_number() -> None:
    # PyYAML alone reads 1e-3 as text.
    recipe = load_recipe(None, ["training.optimizer.learning_rate=1e-3"])
    assert recipe.training.optimizer.learning_rate == 1e-3
    assert yaml.safe_load("1e-3") == "1e-3"


def test_options_win_over_overrides() -> None:
    assert load_recipe(None, ["seed=1"], {"seed": 2}).seed == 2


def test_local_paths_become_absolute_and_split_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noisy.csv").write_text("text,label\n")
    (tmp_path / "train").mkdir()  # a folder that happens to have a split's name
    (tmp_path / "bert").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(None, ["data.train=noisy.csv", "model.name=bert"])
    resolved = resolve_paths(recipe)
    assert resolved.data.train == str(tmp_path / "noisy.csv")
    assert resolved.model.name == str(tmp_path / "bert")
    assert resolve_paths(Recipe()).data.train == "train"
