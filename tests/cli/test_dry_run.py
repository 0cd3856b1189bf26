"""`--dry-run`, `--config` and `sama demo`: the same commands, another way to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The descriptions of all trainings."""
    from samacli.training import experiment

    found: list[str] = []
    fit = experiment.fit

    def counted(*arguments: Any, **named: Any) -> Any:
        found.append(named["description"])
        return fit(*arguments, **named)

    monkeypatch.setattr(experiment, "fit", counted)
    return found


def test_a_dry_run_of_reweight_says_what_a_run_does(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path, fits: list[str]
) -> None:
    given = ["reweight", "--train", texts["noisy"], "--meta", texts["clean"], "--test",
             texts["test"], "--model", tiny_bert, "training.precision=fp32", "repeats=2",
             "training.steps=2", "meta.unroll=2", "-o", tmp_path / "out"]  # fmt: skip
    code, out, err = run_sama(*given, "--dry-run")
    assert code == 0, err
    for words in ("sport", "noisy", "a step: 16 training rows; 2 steps are 0.1 epochs",
                  "a meta step of 32 rows every 2 steps", "nothing was trained"):  # fmt: skip
        assert words in out, out
    code, out, err = run_sama(*given, "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert plan["rows"] == {"train": 400, "meta": 60, "validation": 0, "test": 90}
    assert plan["trainings"] == {
        "noisy": 2,
        "clean": 2,
        "mixed": 2,
        "no-meta-steps": 2,
        "sama": 2,
        "export": 2,
    }
    assert fits == []
    assert not (tmp_path / "out").exists()
    assert run_sama(*given)[0] == 0
    assert len(fits) == sum(plan["trainings"].values())
    code, _, err = run_sama(*given, "--dry-run")
    assert code == 2, "what the run would be refused for"
    assert "--overwrite" in err


@pytest.mark.parametrize("more", [[], ["--verify", "--scores", "el2n"]])
def test_a_dry_run_of_prune_counts_the_trainings(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path, fits: list[str],
    more: list[str],
) -> None:  # fmt: skip
    given = ["prune", "--train", texts["noisy"], "--test", texts["test"], "--model", tiny_bert,
             "training.precision=fp32", "training.steps=2", "--keep", "0.5,100", *more,
             "-o", tmp_path / "out"]  # fmt: skip
    code, out, err = run_sama(*given, "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert plan["keeps"] == {"0.5": 200, "100": 100}
    assert fits == []
    code, _, err = run_sama(*given)
    assert code == 0, err
    assert len(fits) == sum(plan["trainings"].values()), (fits, plan["trainings"])


def test_config_is_the_recipe(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        f"data: {{train: {texts['noisy']}, meta: {texts['clean']}}}\n"
        f"model: {{name: {tiny_bert}}}\ntraining: {{steps: 7}}\n"
    )
    code, out, err = run_sama(
        "reweight", "--config", recipe, "--dry-run", "--json", "meta.batch_size=5"
    )
    assert code == 0, err
    assert (json.loads(out)["steps"], json.loads(out)["meta_batch_size"]) == (7, 5)
    code, _, err = run_sama("prune", "demo-vision", "--config", recipe)
    assert code == 2
    assert "two recipes" in err


@pytest.mark.parametrize(
    ("which", "command", "recipe"),
    [("text", "reweight", "demo-text"), ("vision", "prune", "demo-vision")],
)
def test_the_demo_is_the_command_with_its_recipe(
    run_sama: Run, monkeypatch: pytest.MonkeyPatch, which: str, command: str, recipe: str
) -> None:
    from samacli.errors import SamaError
    from samacli.recipe import load_recipe
    from samacli.runs import prune, reweight

    found: list[Any] = []

    def stop(*arguments: Any, **how: Any) -> None:
        found.append((*arguments, how["overwrite"]))
        raise SamaError("in place of a run")

    monkeypatch.setattr({"prune": prune, "reweight": reweight}[command], command, stop)
    assert run_sama("demo", which, "--overwrite", "--seed", "3")[0] == 2
    assert found == [(load_recipe(recipe, ["seed=3"]), Path("runs", recipe), True)]
