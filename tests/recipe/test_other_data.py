"""A built-in recipe with somebody's own file: nothing of its own data is taken for theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from samacli.recipe import Recipe, built_in_recipes, load_recipe

FILE = "text,label\na good film,x\na bad film,y\n"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.csv").write_text(FILE, encoding="utf-8")
    return tmp_path


def loaded(name: str, *overrides: str, **data: str) -> tuple[Recipe, list[str]]:
    notes: list[str] = []
    values = {f"data.{key.replace('__', '.')}": value for key, value in data.items()}
    return load_recipe(name, overrides, values, note=notes.append), notes


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("name", list(built_in_recipes()))
def test_no_recipe_brings_data_of_its_own_beside_a_file(name: str) -> None:
    """Its clean set, its test set, its injected noise and its subsets would be silently wrong."""
    recipe, notes = loaded(name, train="my.csv", columns__label="label-of-mine")
    plain = Recipe().data
    same = recipe.data.model_copy(
        update={
            "train": plain.train,
            "seed": plain.seed,
            "meta_seed": plain.meta_seed,
            "columns": plain.columns,
            **{
                key: getattr(plain, key)
                for key in ("max_length", "image_size", "shortest_edge", "normalize", "bad_images")
            },
        }
    )
    assert same == plain, "all else is as with no recipe at all"
    assert recipe.data.columns.true_label is None
    assert len(notes) == 1, notes
    assert recipe.training == load_recipe(name).training
    assert recipe.model == load_recipe(name).model


@pytest.mark.usefixtures("mine")
def test_what_is_left_aside_is_told_and_can_be_said_anew() -> None:
    recipe, notes = loaded(
        "trec", train="my.csv", meta="clean.csv", test="test.csv", columns__label="label"
    )
    assert (recipe.data.meta, recipe.data.test, recipe.data.path) == ("clean.csv", "test.csv", None)
    assert notes == [
        "what recipe 'trec' says of its own data is left aside: data.path, "
        "data.columns.true_label; say anew what holds for yours too"
    ]
    again, notes = loaded("agnews-hub-bert", "data.noise.kind=symmetric", train="my.csv")
    assert (again.data.noise.kind, again.data.noise.rate) == ("symmetric", 0)
    assert "noise" not in notes[0]
    with_truth, _ = loaded(
        "trec", "data.columns.true_label=right", train="my.csv", columns__label="topic"
    )
    assert with_truth.data.columns.true_label == "right"


def test_a_copy_of_its_own_data_is_read_as_they_are(mine: Path) -> None:
    """A folder of files, one of its files, or files elsewhere with columns called alike."""
    (mine / "copy").mkdir()
    (mine / "copy" / "train.jsonl").write_text("{}\n", encoding="utf-8")
    whole = load_recipe("trec")
    for more in (
        {"path": "copy"},
        {"path": "copy", "train": "train.jsonl"},
        {"path": "copy", "train": "copy/train.jsonl"},
        {"path": "copy", "train": str(mine / "copy" / "train.jsonl")},
        {"train": "train"},
        {"train": "unlabelled"},
    ):
        recipe, notes = loaded("trec", **more)
        assert notes == []
        assert recipe.data == whole.data.model_copy(update=more)
    recipe, _ = loaded("trec", train="copy/train.jsonl")
    assert recipe.data.columns == whole.data.columns, "true labels are not taken for given ones"


def test_a_recipe_of_ones_own_keeps_what_it_says(mine: Path) -> None:
    (mine / "mine.yaml").write_text(
        "extends: demo-text\n"
        "data: {train: my.csv, meta: clean.csv, noise: {kind: symmetric, rate: 0.1}}\n",
        encoding="utf-8",
    )
    recipe, notes = loaded("mine.yaml")
    assert (recipe.data.path, recipe.data.source, recipe.data.test) == (None, "auto", None)
    assert (recipe.data.meta, recipe.data.meta_per_class) == ("clean.csv", None)
    assert recipe.data.noise.rate == 0.1
    assert notes
    assert "'demo-text'" in notes[0]
    assert "noise" not in notes[0]
    (mine / "alone.yaml").write_text(
        "data: {train: my.csv, meta: clean.csv, minus_one: class, columns: {true_label: right}}\n",
        encoding="utf-8",
    )
    recipe, notes = loaded("alone.yaml", train="other.csv")
    assert notes == []
    assert (recipe.data.meta, recipe.data.columns.true_label) == ("clean.csv", "right")
    assert recipe.data.minus_one == "class"


def test_rows_in_memory_are_no_recipe_s_own() -> None:
    recipe = load_recipe("demo-text", (), {"data.train": "train", "data.meta": "meta"}, rows=True)
    assert (recipe.data.path, recipe.data.noise.kind, recipe.data.test) == (None, "none", None)
    assert recipe.data.meta_per_class is None
