"""Recipes: every wrong one is refused by name, every right one survives a round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from samacli.recipe.retired import RETIRED
from samacli.registry import PRESETS


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
        ("training.augment=[crop, resized-crop]", "both crop and resized-crop; name one"),
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


def files(folder: Path, **contents: str) -> Path:
    """NAME.yaml of each text; the path of the last."""
    for name, text in contents.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{list(contents)[-1]}.yaml"


def unroll_and_correction(recipe: Recipe) -> tuple[int, bool]:
    return recipe.meta.unroll, recipe.reweight.correction


FAST, BEST = (
    (PRESETS[name]["meta.unroll"], PRESETS[name]["reweight.correction"])
    for name in ("fast", "best")
)


def test_presets_are_values_that_a_recipe_takes() -> None:
    for name, values in PRESETS.items():
        recipe = load_recipe(None, [f"preset={name}"])
        spelled_out = load_recipe(None, values=values)
        assert recipe == spelled_out.model_copy(update={"preset": name})
    assert FAST != BEST
    assert unroll_and_correction(Recipe()) != FAST, "else the tests below show nothing"


def test_a_files_own_keys_beat_its_preset(tmp_path: Path) -> None:
    file = files(tmp_path, mine="preset: fast\nmeta: {unroll: 7, batch_size: 8}\n")
    recipe = load_recipe(str(file))
    assert unroll_and_correction(recipe) == (7, FAST[1])
    assert recipe.meta.batch_size == 8


def test_a_preset_on_the_command_line_beats_the_file_and_overrides_beat_it(
    tmp_path: Path,
) -> None:
    text = "preset: best\nmeta: {unroll: 7}\nreweight: {correction: true}\n"
    file = str(files(tmp_path, mine=text))
    assert unroll_and_correction(load_recipe(file, ["preset=fast"])) == FAST
    assert unroll_and_correction(load_recipe(file, values={"preset": "fast"})) == FAST
    # Wherever they stand on the line.
    for overrides in (["meta.unroll=3", "preset=fast"], ["preset=fast", "meta.unroll=3"]):
        assert unroll_and_correction(load_recipe(file, overrides)) == (3, FAST[1])
    assert load_recipe(file, ["preset=best"], {"preset": "fast"}).preset == "fast"


def test_a_preset_beats_what_its_file_extends(tmp_path: Path) -> None:
    file = files(
        tmp_path,
        base="preset: best\nmeta: {unroll: 7, batch_size: 8}\n",
        mine="extends: base.yaml\npreset: fast\n",
    )
    recipe = load_recipe(str(file))
    assert unroll_and_correction(recipe) == FAST
    assert (recipe.preset, recipe.meta.batch_size) == ("fast", 8)
    none = files(tmp_path, none="extends: base.yaml\npreset: null\n")
    assert unroll_and_correction(load_recipe(str(none))) == (7, Recipe().reweight.correction)


def test_a_resolved_recipe_keeps_its_values_and_still_takes_a_preset(tmp_path: Path) -> None:
    recipe = load_recipe(None, ["preset=fast", "meta.unroll=3"])
    file = str(files(tmp_path, resolved=dump_recipe(recipe)))
    assert load_recipe(file) == recipe
    assert unroll_and_correction(load_recipe(file, ["preset=best"])) == BEST


def test_an_unknown_preset_is_named(tmp_path: Path) -> None:
    with pytest.raises(SamaError, match=r"preset: should be 'fast'.*did you mean 'fast'"):
        load_recipe(None, ["preset=fats"])
    with pytest.raises(SamaError, match="preset: should be"):
        load_recipe(str(files(tmp_path, mine="preset: [fast]\n")))


def test_a_recipe_extends_another_section_by_section(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    files(tmp_path, base="training: {steps: 5, optimizer: {learning_rate: 0.1}}\nseed: 3\n")
    file = files(
        tmp_path / "deeper",
        middle="extends: ../base.yaml\nmodel: {freeze: [a, b]}\n",
        top="extends: middle.yaml\ntraining: {optimizer: {name: sgd}}\nmodel: {freeze: [c]}\n",
    )
    recipe = load_recipe(str(file), ["seed=4"])
    assert recipe.training.steps == 5
    assert (recipe.training.optimizer.name, recipe.training.optimizer.learning_rate) == ("sgd", 0.1)
    assert recipe.model.freeze == ["c"], "lists are replaced"
    assert recipe.seed == 4
    built_in = files(tmp_path, mine="extends: trec\nseed: 9\n")
    assert load_recipe(str(built_in)) == load_recipe("trec", ["seed=9"])


def test_recipes_that_extend_wrongly_are_refused_by_name(tmp_path: Path) -> None:
    ring = files(tmp_path, a="extends: b.yaml\n", b="extends: a.yaml\n")
    with pytest.raises(SamaError, match=r"in a ring: .*b.yaml' → .*a.yaml' → .*b.yaml'"):
        load_recipe(str(ring))
    with pytest.raises(SamaError, match=r"mine.yaml': extends: .*no recipe 'trek'.*'trec'"):
        load_recipe(str(files(tmp_path, mine="extends: trek\n")))
    with pytest.raises(SamaError, match=r"mine.yaml': extends: .*'gone.yaml' does not exist"):
        load_recipe(str(files(tmp_path, mine="extends: gone.yaml\n")))
    with pytest.raises(SamaError, match=r"mine.yaml': extends should be .*, got \['trec'\]"):
        load_recipe(str(files(tmp_path, mine="extends: [trec]\n")))


def test_what_old_recipes_say_of_keys_that_are_no_more() -> None:
    """As the rule is now: read as ever. Otherwise one sentence says what became of the key."""
    for key, (rule, instead) in RETIRED.items():
        assert not resolves(key), key
        for value in rule:
            assert load_recipe(None, values={key: value}) == Recipe()
        with pytest.raises(SamaError) as error:
            load_recipe(None, values={key: "something else"})
        assert str(error.value) == f"recipe '(command line)': {key} is no more: {instead}"


def resolves(key: str) -> bool:
    """Whether a recipe has this key."""
    found: Any = Recipe().model_dump()
    for part in key.split("."):
        found = found.get(part, {}) if isinstance(found, dict) else {}
    return found != {}


def test_a_retired_key_leaves_its_neighbours_alone() -> None:
    text = "meta: {hidden: 64, unroll: 3}\nreweight: {rivals: {folds: 3}, clean_share: 0.25}\n"
    content = read_yaml(text, "old")
    recipe = validate(content, "old")
    assert (recipe.meta.unroll, recipe.reweight.clean_share) == (3, 0.25)
    assert content == read_yaml(text, "old"), "what was given stays as it is"
    with pytest.raises(SamaError, match=r"unknown key reweight\.rivals"):
        validate({"reweight": {"rivals": {"folds": 3, "fold": 3}}}, "old")
