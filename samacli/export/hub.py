"""A finished run on the Hugging Face hub: a dataset repository and a model repository, with cards.

The token is the environment's (`HF_TOKEN`, or what `hf auth login` left); it is never an argument,
so it stands in no shell history, recipe or log. Repositories are made private.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import yaml
from huggingface_hub import errors as hub_errors

from samacli.errors import SamaError
from samacli.export.dataset import CLEAN_FILE

_DATA_FILES = ["train-*.parquet"]
_BESIDE = [CLEAN_FILE, "scores.parquet", "suspects.csv", "metrics.json", "recipe.yaml"]


def check_hub(name: str) -> None:
    """Refuse, before any work is done, a push that cannot succeed.

    name: `owner/name`; the model goes to `owner/name-model`.

    Raises:
        SamaError: the name is no repository's, or there is no token.
    """
    try:
        huggingface_hub.utils.validate_repo_id(name)
    except hub_errors.HFValidationError as error:
        raise SamaError(f"--push-to-hub '{name}' is no repository's name: {error}") from error
    if "/" not in name:
        raise SamaError(f"--push-to-hub '{name}' names no owner; write OWNER/NAME")
    if huggingface_hub.get_token() is None:
        raise SamaError(
            "--push-to-hub takes a token, and there is none; set HF_TOKEN, or run `hf auth login`"
        )


def push_run(run: Path, name: str, *, task: str, version: str) -> list[str]:
    """Upload `run` (what `reweight` or `prune` wrote); the two repositories' names.

    The dataset repository holds the rows (configuration `default`), `scores.parquet`
    (configuration `scores`), clean rows where there are some (configuration `clean`),
    `suspects.csv`, `metrics.json` and `recipe.yaml`.

    Raises:
        SamaError: the hub refused, or cannot be reached.
    """
    api = huggingface_hub.HfApi()
    model = f"{name}-model"
    try:
        api.create_repo(name, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            repo_type="dataset",
            folder_path=run / "dataset",
            allow_patterns=_DATA_FILES,
            delete_patterns=_DATA_FILES,
            commit_message=f"Rows, by samacli {version}",
        )
        api.upload_folder(
            repo_id=name,
            repo_type="dataset",
            folder_path=run,
            allow_patterns=_BESIDE,
            delete_patterns=[CLEAN_FILE],
            commit_message="Scores, suspects, metrics and the recipe",
        )
        _card(api, name, "dataset", _dataset_card(run))
        api.create_repo(model, repo_type="model", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=model,
            repo_type="model",
            folder_path=run / "model",
            ignore_patterns=["README.md"],
            commit_message=f"The model, by samacli {version}",
        )
        _card(api, model, "model", _model_card(name, task, version))
    except (hub_errors.HfHubHTTPError, OSError, hub_errors.OfflineModeIsEnabled) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise SamaError(
            f"the run is in '{run}', but pushing it to the hub failed: {reason}"
        ) from error
    return [name, model]


def _card(api: Any, name: str, kind: str, text: str) -> None:
    api.upload_file(
        path_or_fileobj=text.encode(),
        path_in_repo="README.md",
        repo_id=name,
        repo_type=kind,
        commit_message="The card",
    )


def _dataset_card(run: Path) -> str:
    """The folder's own card, told which files are rows and which are scores."""
    text = (run / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    about["configs"] = [
        {"config_name": "default", "data_files": _DATA_FILES[0], "default": True},
        {"config_name": "scores", "data_files": "scores.parquet"},
    ]
    if (run / CLEAN_FILE).is_file():
        about["configs"].append({"config_name": "clean", "data_files": CLEAN_FILE})
    return f"---\n{yaml.safe_dump(about, sort_keys=False)}---\n{body}"


def _model_card(dataset: str, task: str, version: str) -> str:
    front = yaml.safe_dump(
        {
            "library_name": "transformers",
            "pipeline_tag": task,
            "datasets": [dataset],
            "tags": ["samacli"],
        },
        sort_keys=False,
    )
    return f"""---
{front}---

# A classifier trained on reweighted or pruned data

Made by samacli {version}. The data, the scores, what was measured (`metrics.json`) and the
whole run (`recipe.yaml`) are in the dataset repository [{dataset}](https://huggingface.co/datasets/{dataset}).
"""
