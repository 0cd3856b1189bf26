"""What is typed every day: the first call, help, short options, any terminal."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samacli.__main__ import main
from samacli.errors import SamaError
from samacli.recipe import Recipe, load_recipe
from tests.report.runs import write_run

Run = Callable[..., tuple[int, str, str]]


def test_the_bare_command_says_what_to_type(run_sama: Run) -> None:
    code, out, err = run_sama()
    assert (code, err) == (0, "")
    for words in ("sama demo text", "sama check", "sama reweight --train", "sama prune --train"):
        assert words in out
    assert len(out.splitlines()) < 20, "a greeting, not the manual"


@pytest.mark.parametrize("command", [[], ["reweight"], ["recipes", "show"]])
def test_h_is_help(run_sama: Run, command: list[str]) -> None:
    assert run_sama(*command, "-h") == run_sama(*command, "--help")
    assert run_sama(*command, "-h")[0] == 0


def test_env_tells_what_a_bug_report_needs(run_sama: Run) -> None:
    import torch

    code, out, _ = run_sama("env", "--json", "--device", "cpu")
    assert code == 0
    found = json.loads(out)
    assert found["torch"] == torch.__version__
    assert found["device"] == "cpu"
    assert {"samacli", "transformers", "datasets", "python", "bf16", "cores", "system"} <= {*found}
    assert all(value in run_sama("env", "--device", "cpu")[1] for value in found.values())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    """The recipe that `sama reweight` or `sama prune` would run."""
    from samacli.runs import prune, reweight

    found: list[Recipe] = []

    def stop(recipe: Recipe, *_: Any, **how: Any) -> None:
        found.append(recipe)
        raise SamaError("in place of a run")

    monkeypatch.setattr(prune, "prune", stop)
    monkeypatch.setattr(reweight, "reweight", stop)

    def run(*arguments: str) -> Recipe:
        with pytest.raises(SystemExit):
            main(list(arguments))
        return found.pop()

    return run


@pytest.mark.parametrize("command", ["reweight", "prune"])
def test_what_is_changed_most_often_has_an_option(
    opened: Callable[..., Recipe], command: str
) -> None:
    recipe = opened(
        command, "demo-text", "training.batch_size=4",
        "--epochs", "2", "--lr", "1e-3", "--batch-size", "8", "--max-length", "32",
    )  # fmt: skip
    assert recipe.training.epochs == 2
    assert recipe.training.steps is None
    assert recipe.training.optimizer.learning_rate == 1e-3
    assert recipe.training.batch_size == 8, "an option wins over KEY=VALUE"
    assert recipe.data.max_length == 32


def test_the_exported_data_are_trained_on_with_the_same_options(
    run_sama: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samacli.runs import train

    found: list[dict[str, Any]] = []

    def stop(dataset: Path, output: Path, overrides: Any, values: dict[str, Any], *_: Any,
             **how: Any) -> None:  # fmt: skip
        found.append(values)
        raise SamaError("in place of a run")

    monkeypatch.setattr(train, "train", stop)
    run_sama("train", "somewhere", "--epochs", "0.5", "--batch-size", "8")
    assert found == [{"training.epochs": 0.5, "training.batch_size": 8}]


def test_of_epochs_and_steps_the_last_said_counts(tmp_path: Path) -> None:
    assert load_recipe("demo-text").training.steps is not None

    def training(*overrides: str, name: str = "demo-text") -> tuple[int | None, float]:
        found = load_recipe(name, overrides).training
        return found.steps, found.epochs

    assert training("training.epochs=2") == (None, 2)
    assert training("training.steps=7", "training.epochs=2") == (None, 2)
    assert training("training.epochs=2", "training.steps=7")[0] == 7
    file = tmp_path / "mine.yaml"
    file.write_text("extends: demo-text\ntraining: {epochs: 4}\n")
    assert training(name=str(file)) == (None, 4)
    assert training("training.steps=9", name=str(file))[0] == 9
    file.write_text("training: {epochs: 4, steps: 5}\n")
    assert training(name=str(file))[0] == 5, "said together, steps are the more exact word"


@pytest.mark.parametrize("command", ["inspect", "compare", "report"])
def test_a_terminal_of_ascii_alone_takes_any_class_name(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "体育", classes=("体育", "财经", "Zürich"))
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, encoding="ascii"))
    more = {"inspect": ["--row", "0"], "compare": [str(run)], "report": []}[command]
    with pytest.raises(SystemExit) as end:
        main([command, str(run), *more])
    sys.stdout.flush()
    out = bytes_.getvalue().decode("ascii")
    assert not end.value.code, out
    assert "\\u4f53\\u80b2" in "".join(out.split()).replace("|", "")
    assert "\\xb1" not in out, "common signs have a spelling of their own"


def test_who_types_options_is_told_of_options(run_sama: Run, tmp_path: Path) -> None:
    for name in ("train", "meta"):
        (tmp_path / f"{name}.csv").write_text("text,label\na,x\nb,y\n")
    given = ["reweight", "--train", tmp_path / "train.csv", "--meta", tmp_path / "meta.csv"]
    given += ["-o", tmp_path / "out"]
    for more, option, key in (
        (["--model", tmp_path / "nowhere"], "--model", "model.name"),
        (["--batch-size", "0"], "--batch-size", "training.batch_size"),
        (["--max-length", "1"], "--max-length", "data.max_length"),
    ):
        code, _, err = run_sama(*given, *more)
        assert code == 2
        assert option in err, err
        assert key not in err, err
    # Who writes keys is told of keys.
    code, _, err = run_sama("reweight", "demo-text", "training.batch_size=0")
    assert "training.batch_size" in err
