"""The command line as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import samacli
from samacli.cli.opening import split_arguments

Run = Callable[..., tuple[int, str, str]]

QUICK = ["training.steps=4", "training.precision=fp32", "training.batch_size=16"]


@pytest.mark.parametrize(
    "command",
    [
        ["reweight"],
        ["prune"],
        ["check"],
        ["demo"],
        ["env"],
        ["train"],
        ["evaluate"],
        ["score"],
        ["select"],
        ["report"],
        ["inspect"],
        ["compare"],
        ["table"],
        ["recipes", "ls"],
        ["recipes", "show"],
        ["recipes", "cp"],
    ],
)
def test_every_help_has_an_example(run_sama: Run, command: list[str]) -> None:
    code, out, _ = run_sama(*command, "--help")
    assert code == 0
    assert "sama " + " ".join(command) in " ".join(out.split())
    assert "Example" in out


def test_the_help_and_the_readme_list_the_rivals(run_sama: Run) -> None:
    from typing import get_args

    from samacli.recipe.schema import ReweightBaseline

    _, out, _ = run_sama("reweight", "--help")
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    words = "".join(out.replace("│", " ").split())
    for name in get_args(ReweightBaseline):
        assert name in words, name
        assert f"`{name}`" in readme, name


def test_version(run_sama: Run) -> None:
    assert run_sama("--version") == (0, f"samacli {samacli.__version__}\n", "")


def test_reweight_train_and_evaluate_from_plain_files(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, stdout, stderr = run_sama(
        "reweight", "--train", texts["noisy"], "--meta", texts["clean"], "--test", texts["test"],
        "--model", tiny_bert, "--text-column", "text", "--label-column", "label",
        "--output", out, "--baselines", "noisy", *QUICK, "--seed", "7", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, stderr
    for word in ("noisy", "sama", "accuracy"):
        assert word in stdout
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["seeds"] == [7]
    assert set(metrics["methods"]) == {"noisy", "sama", "export"}

    code, stdout, stderr = run_sama(
        "train", out / "dataset", "--test", texts["test"], "--output", tmp_path / "final"
    )
    assert code == 0, stderr
    code, stdout, stderr = run_sama("evaluate", tmp_path / "final", "--data", texts["test"])
    assert code == 0, stderr
    assert "macro-F1" in stdout
    assert all(name in stdout for name in ("sport", "money", "film"))


def test_quiet_leaves_the_results_alone_on_stdout(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    code, stdout, stderr = run_sama(
        "--quiet", "reweight", "--train", texts["noisy"], "--meta", texts["clean"],
        "--model", tiny_bert, "-o", tmp_path / "out", *QUICK,
    )  # fmt: skip
    assert code == 0
    # A few steps teach nothing, which is a warning and said all the same.
    assert [line for line in stderr.splitlines() if not line.startswith("warning: ")] == []
    assert "suspects.csv" in stdout


def test_recipes_are_listed_shown_and_copied(run_sama: Run, tmp_path: Path) -> None:
    code, out, _ = run_sama("recipes", "ls")
    assert code == 0
    for name in ("demo-text", "demo-vision", "trec", "agnews-hub-bert", "cifar10-resnet18"):
        assert name in out
    code, shown, _ = run_sama("recipes", "show", "trec")
    assert code == 0
    assert run_sama("recipes", "cp", "trec", tmp_path / "mine.yaml")[0] == 0
    assert (tmp_path / "mine.yaml").read_text() == shown
    code, _, err = run_sama("recipes", "cp", "trec", tmp_path / "mine.yaml")
    assert code == 2
    assert "exists" in err


def test_recipes_come_in_groups_and_yours_among_them(
    run_sama: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "mine.yaml").write_text("extends: demo-text\ndescription: my own\n")
    (tmp_path / "recipes" / "less.yml").write_text(
        "task: image-classification\nmodel: {name: resnet8-small}\nprune: {keep: [0.5]}\n"
    )
    (tmp_path / "broken.yaml").write_text("data: {pth: x}\n")
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    code, out, _ = run_sama("recipes", "ls")
    assert code == 0
    assert all(len(line) <= 80 for line in out.splitlines())
    places = [
        out.index(word)
        for word in ("demos", "demo-vision", "yours", "mine.yaml", "reweight, texts",
                     "prune, texts", "agnews-prune", "prune, images", "cifar10-resnet18")
    ]  # fmt: skip
    assert places == sorted(places)
    assert "unknown key data.pth" in " ".join(out.split())
    assert "compose" not in out
    code, out, _ = run_sama("recipes", "ls", "--json")
    found = {one["name"]: one for one in json.loads(out)}
    assert found["mine.yaml"]["group"] == "yours"
    assert found["mine.yaml"]["needs"] == ["extra demo"]
    assert found["recipes/less.yml"] == {
        "name": "recipes/less.yml", "group": "yours", "command": "prune", "modality": "image",
        "task": "image-classification", "description": "", "needs": ["train"], "problem": None,
    }  # fmt: skip
    assert found["trec"]["needs"] == ["data/trec", "extra demo"]
    assert found["agnews-hub-bert"]["needs"] == [
        "hub: fancyzhx/ag_news", "hub: google-bert/bert-base-uncased", "GPU",
    ]  # fmt: skip
    assert found["demo-vision"]["needs"] == []
    code, out, _ = run_sama("recipes", "ls", "--task", "prune", "--modality", "text", "--json")
    assert {(one["command"], one["modality"]) for one in json.loads(out)} == {("prune", "text")}
    code, out, _ = run_sama("recipes", "ls", "--task", "image-classification", "--json")
    assert {one["modality"] for one in json.loads(out)} == {"image"}


def test_models_that_need_no_download_are_known_by_name() -> None:
    from samacli.models.small_resnet import SMALL_RESNETS
    from samacli.recipe.listing import FROM_SCRATCH

    assert all(FROM_SCRATCH.fullmatch(name) for name in SMALL_RESNETS)


def test_the_recipe_may_stand_among_the_overrides() -> None:
    assert split_arguments(["seed=1", "trec", "data.path=x"]) == ("trec", ["seed=1", "data.path=x"])
    assert split_arguments(None) == (None, [])
