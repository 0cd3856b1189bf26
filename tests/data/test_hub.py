"""Hub datasets, against a hub in miniature: read, cached, and every failure one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import huggingface_hub
import pytest

from samacli.data import load_splits
from samacli.errors import SamaError
from samacli.recipe.schema import Data

from .hub_server import hub

CSV = b"text,label\na good film,1\na bad film,0\nanother,1\n"
CARD = b"""---
configs:
- config_name: small
  data_files:
  - split: train
    path: small/train.csv
  - split: test
    path: small/test.csv
- config_name: large
  data_files: large/train.csv
---
"""
REPOSITORIES = {
    "someone/plain": {"train.csv": CSV, "validation.csv": CSV.replace(b"another", b"other")},
    "someone/configured": {
        "README.md": CARD,
        "small/train.csv": CSV,
        "small/test.csv": CSV,
        "large/train.csv": CSV * 1,
    },
    "someone/scripted": {"scripted.py": b"raise SystemExit('run!')"},
}

PROGRAM = """
import json, sys
from samacli.data import load_splits
from samacli.errors import SamaError
from samacli.recipe.schema import Data

for line in sys.stdin:
    answers = []
    for config in json.loads(line):
        try:
            splits = load_splits(Data(**config), "text-classification")
            answers.append([splits.train.labels.tolist(), splits.train.origin])
        except SamaError as error:
            answers.append(str(error))
    print(json.dumps(answers), flush=True)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What `load_splits` makes of each question, in a process that knows this hub alone."""
    questions = {
        "plain": {"path": "someone/plain", "meta": "validation"},
        "config": {"path": "someone/configured", "config": "small"},
        "revision": {"path": "someone/plain", "revision": "main", "source": "hub"},
        "no split": {"path": "someone/plain", "meta": "dev set"},
        "no config": {"path": "someone/configured"},
        "wrong config": {"path": "someone/configured", "config": "smal"},
        "wrong revision": {"path": "someone/plain", "revision": "v9"},
        "unknown": {"path": "someone/unknown"},
        "script": {"path": "someone/scripted"},
        "impossible": {"path": "some one/..", "source": "hub"},
    }
    unreachable = [questions["plain"], questions["config"], {"path": "someone/never-seen"}]
    unreachable += [{"path": "someone/configured", "config": "large"}]
    with hub(REPOSITORIES) as endpoint:
        env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        env |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path_factory.mktemp("home"))}
        env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(list(questions.values())) + "\n")
        process.stdin.flush()
        online = process.stdout.readline()
    rest, errors = process.communicate(json.dumps(unreachable) + "\n", timeout=120)
    assert (process.returncode, errors) == (0, "")
    return {**dict(zip(questions, json.loads(online), strict=True)), "gone": json.loads(rest)}


def test_read(answers):
    assert answers["plain"] == [[1, 0, 1], "split 'train' of someone/plain"]
    assert answers["config"] == [[1, 0, 1], "split 'train' of someone/configured"]
    assert answers["revision"][0] == [1, 0, 1]


def test_unknown_split(answers):
    assert answers["no split"] == (
        "hub dataset 'someone/plain' has no split 'dev set' (data.meta); its splits are: train, "
        "validation"
    )


def test_configurations(answers):
    assert answers["no config"] == (
        "the hub dataset 'someone/configured' has several configurations; set data.config to one "
        "of: small, large"
    )
    assert answers["wrong config"] == (
        "the hub dataset 'someone/configured' has no configuration 'smal'; set data.config to one "
        "of: small, large; did you mean 'small'?"
    )


def test_unknown_names(answers):
    assert answers["wrong revision"] == "the hub dataset 'someone/plain' has no revision 'v9'"
    assert answers["unknown"].startswith("there is no dataset 'someone/unknown' on the hub, nor a")
    assert answers["impossible"].startswith("'some one/..' is neither a file or folder nor a")


def test_code_of_a_repository_is_never_run(answers):
    assert answers["script"].startswith(
        "the hub dataset 'someone/scripted' needs its own loading script, which is never run here"
    )


def test_without_a_connection(answers):
    plain, config, unknown, other_config = answers["gone"]
    assert plain == answers["plain"]
    assert config == answers["config"]
    assert unknown == (
        "there is no file or folder 'someone/never-seen', the hub can't be reached, and the local "
        "cache has no dataset 'someone/never-seen'; connect, or set data.path to a local copy"
    )
    assert "has no dataset 'someone/configured' with configuration 'large'" in other_config


def test_offline_by_wish_asks_no_hub(monkeypatch):
    def dataset_info(*_, **__):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(huggingface_hub, "is_offline_mode", lambda: True)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    with pytest.raises(SamaError, match="the hub can't be reached, and the local cache has no"):
        load_splits(Data(path="someone/never-seen"), "text-classification")
