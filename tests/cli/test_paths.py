"""Names of files and folders that mean something to a shell, a glob or a library, taken as names.

At e92cefb `output="out [v1]"` trained and then failed, `~` was a folder's name in --output, and an
output's name that left no room for the folder beside it failed at the end.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import pandas
import pytest
from PIL import Image

import samacli
from samacli.errors import SamaError
from tests.conftest import sentences, write_csv

Run = Callable[..., tuple[int, str, str]]

ODD = "a [v1] {x,y}?* ñ好 #%20&;'~"
QUICK = (
    "training.steps=2", "training.batch_size=8", "meta.batch_size=8", "training.precision=fp32",
)  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """A folder of that name with data in several formats, images, a model and a finished run."""
    from samacli.__main__ import main

    folder = tmp_path_factory.mktemp("paths") / ODD
    folder.mkdir()
    train = sentences(40, seed=0)
    write_csv(folder / f"train {ODD}.csv", train)
    clean = pandas.DataFrame(sentences(20, seed=1), columns=["text", "label"])
    clean.to_json(folder / "clean[1].jsonl", orient="records", lines=True)
    test = pandas.DataFrame(sentences(20, seed=2), columns=["text", "label"])
    test.to_parquet(folder / "test{2}.parquet")
    (folder / "set*").mkdir()
    write_csv(folder / "set*" / "train.csv", train)
    for split, count in (("photos?", 4), ("trusted]", 3)):
        for name, grey in (("dark", 20), ("light", 220)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                colour = grey + 3 * i + (split == "trusted]")
                Image.new("RGB", (8, 8), (colour, colour, colour)).save(
                    folder / split / name / f"{i}[{i}].png"
                )
    shutil.copytree(tiny_bert, folder / "model[0]")
    with pytest.raises(SystemExit) as end:
        main(["reweight", *data(folder), *QUICK, "--baselines", "none", "-o", str(folder / "out?")])
    assert end.value.code in (0, None)
    return folder


def data(folder: Path) -> list[str]:
    return [
        "--train", str(folder / f"train {ODD}.csv"), "--meta", str(folder / "clean[1].jsonl"),
        "--test", str(folder / "test{2}.parquet"), "--model", str(folder / "model[0]"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "{odd}/set*", "{odd}/clean[1].jsonl", "{odd}/test{2}.parquet"],
        ["train", "{odd}/out?/dataset", "--test", "{odd}/test{2}.parquet", *QUICK, "-o",
         "{odd}/[t]/deep"],
        ["evaluate", "{odd}/out?", "--data", "{odd}/test{2}.parquet"],
        ["evaluate", "{odd}/out?/model", "--data", "{odd}/set*"],
        ["score", "{odd}/out?", "--data", "{odd}/clean[1].jsonl", "-o", "{odd}/s*", "--overwrite"],
        ["score", "{odd}/out?", "--data", "{odd}/test{2}.parquet", "--stream", "-o", "{odd}/s{}",
         "--overwrite"],
        ["select", "{odd}/out?/scores.parquet", "--score", "weight", "--keep", "0.5", "-o",
         "{odd}/sel[ ]"],
        ["report", "{odd}/out?"],
        ["inspect", "{odd}/out?", "--row", "3"],
        ["compare", "{odd}/out?", "{odd}/out?"],
        ["reweight", "{odd}/out?/recipe.yaml", "--dry-run", "-o", "{odd}/n[0]"],
        ["prune", "--train", "{odd}/photos?", "--meta", "{odd}/trusted]", "--image-column", "image",
         "--model", "resnet8-small", *QUICK, "prune.trust=none", "-o", "{odd}/p {q}"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)  # fmt: skip
def test_commands_take_odd_names(arguments: list[str], odd: Path, run_sama: Run) -> None:
    given = [argument.replace("{odd}", str(odd)) for argument in arguments]
    code, _, err = run_sama(*given)
    assert code == 0, err


def test_libraries_read_what_stands_under_odd_names(odd: Path) -> None:
    assert len(pandas.read_parquet(odd / "out?" / "dataset")) == 40
    assert len(samacli.rows_to_train_on(odd / "out?")) >= 60
    told = json.loads((odd / "out?" / "metrics.json").read_text())
    assert told["rows"] == {"train": 40, "meta": 20, "validation": 0, "test": 20}


@pytest.mark.parametrize("output", ["out [v1]", "{a,b}", "s p*c?", "~/under home", "ñ好"])
def test_python_takes_odd_outputs(
    output: str, tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    rows = pandas.DataFrame(sentences(30, seed=0), columns=["text", "label"])
    quick = dict(setting.split("=") for setting in QUICK) | {"reweight.baselines": []}
    result = samacli.reweight(
        rows, rows[:9].assign(text="x " + rows.text), model=tiny_bert, output=output,
        settings={k: int(v) if str(v).isdecimal() else v for k, v in quick.items()}, device="cpu",
    )  # fmt: skip
    assert result.output == Path(output).expanduser()
    assert (tmp_path / output.removeprefix("~/") / "dataset").is_dir()
    assert len(result.dataset) == 30
    assert isinstance(result.clean, pandas.DataFrame)
    assert len(result.clean) == 9


def test_home_is_known_to_commands(
    odd: Path, run_sama: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(odd))
    monkeypatch.chdir(tmp_path)
    given = ["--train", "~/set*", "--meta", "~/clean[1].jsonl", "--model", "~/model[0]"]
    code, _, err = run_sama("reweight", *given, *QUICK, "--output=~/home out")
    assert code == 0, err
    assert (odd / "home out" / "dataset").is_dir()
    assert run_sama("evaluate", "~/home out", "--data", "~/test{2}.parquet")[0] == 0
    assert run_sama("inspect", "~/home out", "--row", "0")[0] == 0
    select = ["select", "~/home out/scores.parquet", "--score", "loss", "--keep", "3"]
    assert run_sama(*select, "-o", "~/kept")[0] == 0
    assert run_sama("train", "~/home out/dataset", *QUICK, "-o", "~/trained")[0] == 0
    assert not list(tmp_path.iterdir()), "nothing is written to a folder called ~"
    code, _, err = run_sama("inspect", "~nobody-of-that-name/x", "--row", "0")
    assert code == 2
    assert "home directory" in err


def test_links_are_followed(odd: Path, run_sama: Run, tmp_path: Path) -> None:
    for name, target in {
        "t.csv": f"train {ODD}.csv", "m.jsonl": "clean[1].jsonl", "photos": "photos?",
        "trusted": "trusted]", "model": "model[0]", "run": "out?", "set": "set*",
    }.items():  # fmt: skip
        (tmp_path / name).symlink_to(odd / target)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "output").symlink_to(tmp_path / "elsewhere")
    text = ["--meta", tmp_path / "m.jsonl", "--model", tmp_path / "model", *QUICK]
    for name in ("t.csv", "set"):
        given = ["reweight", "--train", tmp_path / name, *text, "--baselines", "none"]
        code, _, err = run_sama(*given, "-o", tmp_path / "output" / name)
        assert code == 0, err
    images = ["--train", tmp_path / "photos", "--meta", tmp_path / "trusted"]
    given = [*images, "--image-column", "image", "--model", "resnet8-small", "prune.trust=none"]
    code, _, err = run_sama("prune", *given, *QUICK, "-o", tmp_path / "output" / "p")
    assert code == 0, err
    for command in (
        ["train", "run/dataset", *QUICK, "-o"],
        ["score", "run", "--data", "set", "-o"],
    ):
        name, first, *rest = command
        rest = [str(tmp_path / "set") if word == "set" else word for word in rest]
        code, _, err = run_sama(name, tmp_path / first, *rest, tmp_path / f"of-{name}")
        assert code == 0, err
    assert run_sama("evaluate", tmp_path / "run", "--data", tmp_path / "set")[0] == 0


@pytest.mark.parametrize("command", ["reweight", "prune", "train", "score", "select"])
@pytest.mark.parametrize("kind", ["a file above", "a file itself", "too long", "no name", "sealed"])
def test_outputs_that_cannot_be_are_refused_before_anything_is_done(
    command: str, kind: str, odd: Path, run_sama: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    sealed = tmp_path / "sealed"
    sealed.mkdir(mode=0o500)
    if command == "score" and kind in ("too long", "no name"):
        pytest.skip("score writes into the folder itself, which can be")
    if kind == "sealed" and os.access(sealed, os.W_OK):
        pytest.skip("root may write anywhere")
    output = {
        "a file above": tmp_path / "file" / "out",
        "a file itself": tmp_path / "file",
        "too long": tmp_path / ("x" * 250),
        "no name": tmp_path / "..",
        "sealed": sealed / "out",
    }[kind]
    given = {
        "reweight": [*data(odd), *QUICK],
        "prune": [*data(odd), *QUICK],
        "train": [odd / "out?" / "dataset", *QUICK],
        "score": [odd / "out?", "--data", odd / "set*"],
        "select": [odd / "out?" / "scores.parquet", "--score", "loss", "--keep", "2"],
    }[command]
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run_sama(command, *given, "--output", output)
    assert code == 2
    assert "output" in err
    assert "Traceback" not in err
    assert "step" not in out + err, "nothing was trained"
    assert sorted(tmp_path.rglob("*")) == before


def test_python_refuses_them_too(tmp_path: Path, tiny_bert: Path) -> None:
    rows = datasets.Dataset.from_list([{"text": t, "label": y} for t, y in sentences(9, seed=0)])
    for output in ("x" * 250, "a\0b", str(tmp_path / "..")):
        with pytest.raises(SamaError, match="output"):
            samacli.reweight(rows, rows, model=tiny_bert, output=output)
