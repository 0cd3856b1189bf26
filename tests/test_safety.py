"""What data, models and recipes of strangers cannot do: run code, read elsewhere, leak secrets."""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml
from PIL import Image

import samacli
from samacli.cli.console import ConsoleProgress, complain, stderr
from samacli.data import load_splits
from samacli.errors import SamaError
from samacli.export.dataset import write_dataset
from samacli.export.metrics import write_metrics
from samacli.models import load_model, load_processor
from samacli.progress import Planned
from samacli.recipe import Model, dump_recipe, load_recipe
from samacli.recipe.schema import Data
from samacli.redact import redact
from tests.conftest import write_csv

PACKAGE = Path(samacli.__file__).parent
ROWS = [("one", "a"), ("two", "b"), ("three", "a"), ("four", "b")]


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(SamaError) as caught:
        action()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# No pickle and no code of strangers


def test_no_code_path_loads_pickles_or_remote_code() -> None:
    forbidden_modules = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    forbidden_calls = {"eval", "exec", "compile", "__import__"}
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            where = f"{file.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
                assert not names & forbidden_modules, where
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in forbidden_modules, where
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            given = {key.arg: ast.unparse(key.value) for key in node.keywords if key.arg}
            assert called not in forbidden_calls, where
            if called == "torch.load":
                assert given.get("weights_only") == "True", where
            assert given.get("weights_only", "True") == "True", where
            assert given.get("allow_pickle", "False") == "False", where
            assert given.get("trust_remote_code", "False") == "False", where
            if given.get("use_safetensors", "True") != "True":
                assert given.get("weights_only") == "True", where
            assert called not in ("yaml.unsafe_load", "yaml.full_load", "pandas.read_pickle"), where
            if called == "yaml.load":
                assert given.get("Loader") == "_Loader", where  # a SafeLoader, see below


class _Payload:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.fixture
def evil(tmp_path: Path, tiny_bert: Path) -> Path:
    """A model directory with weights whose unpickling would leave a file `ran` beside it."""
    folder = tmp_path / "evil"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_bert / name).read_bytes())
    torch.save({"weight": _Payload(f"touch {tmp_path / 'ran'}")}, folder / "pytorch_model.bin")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    return folder


def test_pickled_weights_are_refused(evil: Path, tmp_path: Path) -> None:
    model = Model(name=str(evil))
    sentence = refused(lambda: load_model(model, "text-classification", ["a", "b"]))
    assert "hold more than tensors, which could run code" in sentence
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(_Payload(f"touch {tmp_path / 'ran'}")))
    assert (tmp_path / "ran").exists()  # the payload would have worked


def test_code_of_a_model_is_refused(evil: Path, tmp_path: Path) -> None:
    config = json.loads((evil / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (evil / "config.json").write_text(json.dumps(config))
    model = Model(name=str(evil))
    for load in (
        lambda: load_model(model, "text-classification", ["a", "b"]),
        lambda: load_model(
            model.model_copy(update={"from_config": True}), "text-classification", ["a", "b"]
        ),
    ):
        assert "brings code of its own, which is never run" in refused(load)
    (evil / "tokenizer.json").unlink()
    (evil / "tokenizer_config.json").write_text(
        json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}})
    )
    assert "never run" in refused(lambda: load_processor(model, "text-classification"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["trust_remote_code", "use_safetensors", "weights_only", "token"])
def test_a_recipe_cannot_ask_for_it(tiny_bert: Path, key: str) -> None:
    model = Model(name=str(tiny_bert), config={key: key == "trust_remote_code"})
    sentence = refused(lambda: load_model(model, "text-classification", ["a", "b"]))
    assert sentence.startswith(f"model.config.{key} is refused")


def test_kernels_of_the_hub_are_refused(tiny_bert: Path) -> None:
    model = Model(name=str(tiny_bert), config={"attn_implementation": "someone/attention"})
    assert "never run" in refused(lambda: load_model(model, "text-classification", ["a", "b"]))


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    from samacli.recipe.load import _Loader

    assert issubclass(_Loader, yaml.SafeLoader)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"description: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n")
    refused(lambda: load_recipe(str(recipe)))
    refused(lambda: load_recipe(None, ["seed=!!python/name:os.system"]))
    assert not (tmp_path / "ran").exists()


# Archives


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../escaped.csv", "text,label\na,b\n")


def _tar(path: Path, mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:
        member = tarfile.TarInfo("../../escaped.csv")
        archive.addfile(member, io.BytesIO(b""))


@pytest.mark.parametrize("name", ["train.csv", "train.jsonl", "train.parquet", "train.json.gz"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_are_refused_whatever_their_name(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "zip":
        _zip(path)
    else:
        _tar(path, "w:gz" if name.endswith("gz") else "w")
    data = Data(train=str(path))
    sentence = refused(lambda: load_splits(data, "text-classification"))
    assert sentence == f"{path} is a {kind} archive, which is not read; unpack it first"
    assert not (tmp_path.parent / "escaped.csv").exists()


def test_a_packed_file_says_so_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(gzip.compress(b'{"text": "a", "label": 1}\n'))
    sentence = refused(lambda: load_splits(Data(train=str(path)), "text-classification"))
    assert "does not end in .gz" in sentence


# Paths that lead out of the data


@pytest.fixture
def album(tmp_path: Path) -> Callable[..., Path]:
    """A table of images beside a picture of the user's own, which none of its rows should reach."""
    for place in ("data", "private"):
        (tmp_path / place).mkdir()
        for i in range(4):
            Image.new("L", (8, 8), i * 60).save(tmp_path / place / f"{i}.png")

    def write(*paths: object) -> Path:
        rows = [(str(path), "ab"[i % 2]) for i, path in enumerate(paths)]
        return write_csv(tmp_path / "data" / "train.csv", rows, ("image", "label"))

    return write


def load_images(path: Path, **said: object) -> Any:
    data = Data.model_validate({"train": str(path), **said})
    return load_splits(data, "image-classification")


def test_images_inside_the_folder_are_read(album: Callable[..., Path], tmp_path: Path) -> None:
    inside = tmp_path / "data" / "1.png"
    assert len(load_images(album("0.png", inside, "../data/2.png", "./3.png")).train) == 4


def test_image_paths_that_leave_the_folder(album: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "private" / "0.png")
    for path in ("../private/0.png", tmp_path / "private" / "0.png", "link.png", "/etc/passwd"):
        sentence = refused(lambda path=path: load_images(album("0.png", "1.png", path)))
        assert "row 2 (counted from 0)" in sentence
        assert "which lies outside" in sentence
        assert "data.image_root" in sentence


def test_image_root_names_where_images_may_be(album: Callable[..., Path], tmp_path: Path) -> None:
    table = album("data/0.png", tmp_path / "private" / "1.png", "private/2.png", "data/3.png")
    assert len(load_images(table, image_root=str(tmp_path)).train) == 4


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/x.png", "hf://datasets/a/b/x.png", "zip://x.png::/tmp/a.zip"]
)
def test_images_are_never_fetched(album: Callable[..., Path], url: str) -> None:
    assert "images are never fetched" in refused(lambda: load_images(album("0.png", "1.png", url)))


def test_a_saved_table_of_images_elsewhere(album: Callable[..., Path], tmp_path: Path) -> None:
    paths = [str(tmp_path / "private" / f"{i}.png") for i in range(2)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    rows = datasets.Dataset.from_dict({"image": paths, "label": ["a", "b"]}, features=features)
    rows.to_parquet(tmp_path / "data" / "paths.parquet")
    assert "which lies outside" in refused(lambda: load_images(tmp_path / "data" / "paths.parquet"))


def test_an_exported_dataset_holds_its_images(album: Callable[..., Path], tmp_path: Path) -> None:
    """So it is read wherever it is moved to, and names no files of the user's."""
    splits = load_images(album("0.png", "1.png", "2.png", "3.png"))
    write_dataset(splits.train.rows, tmp_path / "out", "a card")
    (tmp_path / "data").rename(tmp_path / "moved")
    again = load_splits(Data(path=str(tmp_path / "out")), "image-classification").train
    assert [image.getpixel((0, 0)) for image in again.rows["image"]] == [0, 60, 120, 180]
    raw = again.rows.cast_column("image", datasets.Image(decode=False))["image"]
    assert [value["path"] for value in raw] == ["0.png", "1.png", "2.png", "3.png"]


def test_links_out_of_an_image_folder(album: Callable[..., Path], tmp_path: Path) -> None:
    album()
    for label in "ab":
        (tmp_path / "set" / label).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "set" / label / "0.png")
    load_images(tmp_path / "set")
    (tmp_path / "set" / "b" / "1.png").symlink_to(tmp_path / "private" / "1.png")
    assert "which lies outside" in refused(lambda: load_images(tmp_path / "set"))


def test_links_out_of_a_data_folder(tmp_path: Path) -> None:
    outside = write_csv(tmp_path / "outside.csv", ROWS)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.csv").symlink_to(outside)
    data = Data(path=str(tmp_path / "set"))
    sentence = refused(lambda: load_splits(data, "text-classification"))
    assert "leads out of the data folder" in sentence


@pytest.mark.parametrize("file", ["train.json", "label.json"])
def test_links_out_of_a_wrench_folder(tmp_path: Path, file: str) -> None:
    root = tmp_path / "set"
    root.mkdir()
    entries = {str(i): {"label": i, "weak_labels": [i], "data": {"text": "x"}} for i in range(2)}
    contents = {"train.json": entries, "label.json": {"0": "A", "1": "B"}}
    for name, content in contents.items():
        (root / name).write_text(json.dumps(content))
    load_splits(Data(path=str(root)), "text-classification")
    (root / file).rename(tmp_path / file)
    (root / file).symlink_to(tmp_path / file)
    sentence = refused(lambda: load_splits(Data(path=str(root)), "text-classification"))
    assert "leads out of the data folder" in sentence


def test_a_saved_dataset_whose_index_names_files_elsewhere(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list([{"text": t, "label": y} for t, y in ROWS])
    rows.save_to_disk(tmp_path / "elsewhere")
    rows.save_to_disk(tmp_path / "set")
    index = tmp_path / "set" / "state.json"
    state = json.loads(index.read_text())
    state["_data_files"] = [{"filename": "../elsewhere/data-00000-of-00001.arrow"}]
    index.write_text(json.dumps(state))
    data = Data(path=str(tmp_path / "set"))
    assert "leads out" in refused(lambda: load_splits(data, "text-classification"))


# Secrets

TOKEN = "hf_" + "abcdefghij" * 3
LOGIN = "https://someone:hunter2hunter2@example.org/data.csv?token=topsecret&x=1"


def test_redaction() -> None:
    environment = {"HF_TOKEN": "plainlooking", "HOME": "/home/someone", "MY_API_KEY": "true"}
    text = f"{TOKEN} plainlooking /home/someone true {LOGIN} Authorization: Bearer abc.def"
    assert redact(text, environment) == (
        "*** *** /home/someone true https://***@example.org/data.csv?token=***&x=1 "
        "Authorization: Bearer ***"
    )


def test_secrets_are_not_shown_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in a message, nor in the run's own line, nor in those that a log has of it."""
    secret = f"reading {TOKEN} from {LOGIN}\x1b[2J"
    complain(secret)
    progress = ConsoleProgress()
    progress.expect(
        [Planned(secret, secret, 10, ((1.0, 1.0),)), Planned("b", "b", 1, ((1.0, 1.0),))]
    )
    with progress.task(secret, 10) as task:
        task.advance()
        stderr.print(task.text, markup=False, soft_wrap=True)
    said = capsys.readouterr().err
    assert said.count("reading *** from https://***@example.org/data.csv?token=***&x=1") >= 3
    assert "\x1b[2J" not in said
    for word in (TOKEN, "hunter2", "topsecret"):
        assert word not in said


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_secrets_are_in_no_message(
    run_sama: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, debug: list[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "wordlikesecret")
    output = tmp_path / "out"
    for argument in (
        f"data.path={LOGIN}", f"data.path={TOKEN}.csv", f"nonsense={TOKEN}",
        "data.train=wordlikesecret.csv", "model.name=./wordlikesecret",
    ):  # fmt: skip
        code, out, err = run_sama(*debug, "reweight", argument, "data.meta=m.csv", "-o", output)
        assert code == 2
        for secret in (TOKEN, "hunter2", "topsecret", "wordlikesecret"):
            assert secret not in out + err


def test_secrets_are_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "wordlikesecret")
    recipe = load_recipe(None, [f"description=by {TOKEN}", "model.config={x: wordlikesecret}"])
    write_metrics(tmp_path / "metrics.json", {"said": f"{TOKEN} {LOGIN}", "value": 0.5})
    text = dump_recipe(recipe) + (tmp_path / "metrics.json").read_text()
    for secret in (TOKEN, "hunter2", "topsecret", "wordlikesecret"):
        assert secret not in text
    assert json.loads((tmp_path / "metrics.json").read_text())["value"] == 0.5
