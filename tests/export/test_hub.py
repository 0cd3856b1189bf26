"""What is pushed, where to, and that it is private; the hub's client is a recorder."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
import yaml

from samacli.errors import SamaError
from samacli.export.dataset import dataset_card, write_dataset
from samacli.export.hub import check_hub, push_run


class Recorder:
    """As much of `HfApi` as is used; `files` are what the hub would hold."""

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.files: dict[str, dict[str, bytes]] = {}

    def create_repo(self, name: str, *, repo_type: str, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.private[f"{repo_type}s/{name}"] = private
        self.files.setdefault(f"{repo_type}s/{name}", {})

    def upload_folder(
        self, *, repo_id: str, repo_type: str, folder_path: Path, **given: Any
    ) -> None:
        for path in Path(folder_path).rglob("*"):
            name = path.relative_to(folder_path).as_posix()
            allowed = given.get("allow_patterns") or ["*"]
            ignored = given.get("ignore_patterns") or []
            wanted = any(fnmatch.fnmatch(name, one) for one in allowed)
            if path.is_file() and wanted and not any(fnmatch.fnmatch(name, i) for i in ignored):
                self.files[f"{repo_type}s/{repo_id}"][name] = path.read_bytes()

    def upload_file(
        self, *, path_or_fileobj: bytes, path_in_repo: str, repo_id: str, repo_type: str, **_: Any
    ) -> None:
        self.files[f"{repo_type}s/{repo_id}"][path_in_repo] = path_or_fileobj


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "sama_weight": [0.5, 1.5]})
    card = dataset_card(title="T", task="text-classification", facts=[], columns={}, version="1")
    write_dataset(rows, tmp_path / "run" / "dataset", card)
    for name in ("scores.parquet", "suspects.csv", "metrics.json", "recipe.yaml", "private.txt"):
        (tmp_path / "run" / name).write_text(name)
    (tmp_path / "run" / "model").mkdir()
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    return tmp_path / "run"


def test_a_run_is_pushed_privately(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Recorder()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    names = push_run(run, "me/better", task="text-classification", version="1")
    assert names == ["me/better", "me/better-model"]
    assert hub.private == {"datasets/me/better": True, "models/me/better-model": True}
    data, model = hub.files["datasets/me/better"], hub.files["models/me/better-model"]
    assert set(data) == {
        "README.md", "train-00000-of-00001.parquet", "scores.parquet", "suspects.csv",
        "metrics.json", "recipe.yaml",
    }  # fmt: skip
    assert set(model) == {"README.md", "config.json"}
    about = yaml.safe_load(data["README.md"].decode().split("---\n")[1])
    assert [one["config_name"] for one in about["configs"]] == ["default", "scores"]
    assert all(fnmatch.filter(data, one["data_files"]) for one in about["configs"])
    about = yaml.safe_load(model["README.md"].decode().split("---\n")[1])
    assert about["datasets"] == ["me/better"]
    assert about["pipeline_tag"] == "text-classification"


def test_a_refusal_of_the_hub_is_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Recorder):
        def create_repo(self, *_: Any, **__: Any) -> None:
            raise OSError("403 Forbidden: token hf_abcdefghijabcdefghij may not write\nmore")

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    with pytest.raises(SamaError) as caught:
        push_run(run, "me/better", task="text-classification", version="1")
    assert str(caught.value).startswith(f"the run is in '{run}', but pushing it")
    assert "403" in str(caught.value)
    assert "hf_abc" not in str(caught.value)


@pytest.mark.parametrize(("name", "said"), [("a b/c", "no repository's name"), ("c", "no owner")])
def test_names_that_are_none(monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    with pytest.raises(SamaError, match=said):
        check_hub(name)


def test_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(SamaError, match="set HF_TOKEN"):
        check_hub("me/better")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    check_hub("me/better")


def test_the_command_asks_for_a_token_before_it_works(
    run_sama: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    given = ("reweight", "--push-to-hub", "me/better", "--output", tmp_path / "out")
    code, _, err = run_sama(*given)
    assert code == 2
    assert "set HF_TOKEN" in err
    assert not (tmp_path / "out").exists()


def test_the_command_pushes_what_it_wrote(
    run_sama: Any,
    texts: dict[str, Path],
    tiny_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = Recorder()
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    code, out, err = run_sama(
        "reweight", "--train", texts["noisy"], "--meta", texts["clean"], "--model", tiny_bert,
        "training.steps=2", "training.batch_size=8", "training.precision=fp32",
        "--output", tmp_path / "out", "--push-to-hub", "me/better",
    )  # fmt: skip
    assert code == 0, err
    assert "pushed, private: me/better, me/better-model" in out
    written = (tmp_path / "out" / "scores.parquet").read_bytes()
    assert hub.files["datasets/me/better"]["scores.parquet"] == written
    assert "model.safetensors" in hub.files["models/me/better-model"]


def test_what_was_pushed_is_in_the_json(
    run_sama: Any,
    texts: dict[str, Path],
    tiny_bert: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub, "HfApi", Recorder)
    code, out, err = run_sama(
        "prune", "--train", texts["noisy"], "--model", tiny_bert, "--json",
        "training.steps=2", "training.batch_size=8", "training.precision=fp32",
        "prune.trust=none", "prune.order=highest",
        "--output", tmp_path / "out", "--push-to-hub", "me/less",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["pushed"] == ["me/less", "me/less-model"]
