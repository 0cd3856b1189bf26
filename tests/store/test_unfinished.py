"""Which recipes an unfinished run goes on with."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest
import torch

import samacli
from samacli.errors import SamaError
from samacli.progress import Silent
from samacli.recipe import Recipe
from samacli.store.unfinished import Recovery


def test_what_changes_no_result_may_differ_from_the_unfinished_run(tmp_path: Path) -> None:
    partial = tmp_path / "out.partial"
    partial.mkdir()
    versions = {
        "samacli": samacli.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    # as it was written before data.workers counted as changing nothing
    asked = Recipe.model_validate({"data": {"workers": 2}}).model_dump(mode="json")
    (partial / "run.json").write_text(
        json.dumps({"command": "reweight", "recipe": asked, "versions": versions})
    )
    aside: dict[str, Any] = {
        "track": ["wandb"], "track_folder": "elsewhere", "description": "words",
        "checkpoint": {"keep": 5},
    }  # fmt: skip

    def go_on(**data: Any) -> None:
        recipe = Recipe.model_validate({"data": data, **aside})
        with Recovery(
            "reweight", tmp_path / "out", recipe, resume=True, overwrite=False, progress=Silent()
        ):
            pass

    go_on(workers=7)
    with pytest.raises(SamaError, match=r"data\.max_length is 17 here and 128 in the unfinished"):
        go_on(workers=7, max_length=17)
