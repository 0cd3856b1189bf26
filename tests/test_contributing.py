"""The code on docs/contributing.md works as it stands, in a copy of the package."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with every file of the page written, and every line put where the page says."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "samacli", folder / "samacli")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    blocks = re.findall(r"(?s)In `([^`]+)`(?:, among `(\w+)`)?:\n\n```python\n(.*?)```", PAGE)
    assert [bool(among) for _, among, _ in blocks] == [False, True] * 2
    for place, among, code in blocks:
        file = folder / place
        if not among:
            assert not file.exists(), place
            file.write_text(code, encoding="utf-8")
            continue
        text = file.read_text(encoding="utf-8")
        start = re.search(rf"(?m)^{among}: dict\[.*\{{\n", text)
        assert start is not None, among
        file.write_text(text[: start.end()] + code + text[start.end() :], encoding="utf-8")
    return folder


def sama(checkout: Path, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "samacli", "--quiet", "--device", "cpu", *map(str, arguments)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_score_is_a_class_of_20_lines_and_a_line(checkout: Path, tmp_path: Path) -> None:
    file = checkout / "samacli" / "pruning" / "runner_up.py"
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 20
    sama(
        checkout, "prune", "demo-vision", "--scores", "margin,runner_up,least_confidence",
        "--keep", 0.5, "--baselines", "none", "-o", tmp_path / "out",
        "model.config={hidden_sizes: [8], depths: [1], embedding_size: 8}", "repeats=1",
        "data.max_train_rows=120", "training.steps=12", "prune.trust=none", "prune.order=highest",
    )  # fmt: skip
    found = pq.read_table(tmp_path / "out" / "scores.parquet").to_pandas()
    # −(p₁ − p₂) and 1 − p₁ are scores too, so their means give that of p₂.
    expected = found["margin"] + 1 - found["least_confidence"]
    np.testing.assert_allclose(found["runner_up"], expected, atol=1e-6)
    assert found["runner_up"].between(0, 0.5).all()
    assert found["runner_up"].std() > 1e-3


def test_a_method_is_a_function_and_a_line(
    checkout: Path, tmp_path: Path, texts: dict[str, Path], tiny_bert: Path
) -> None:
    sama(
        checkout, "reweight", "--train", texts["noisy"], "--meta", texts["clean"], "--test",
        texts["test"], "--model", tiny_bert, "--baselines", "brief", "-o", tmp_path / "out",
        "training.steps=5", "training.batch_size=8", "training.precision=fp32",
        "meta.batch_size=8", "repeats=1",
    )  # fmt: skip
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert set(metrics["methods"]) == {"brief", "sama", "export"}
    assert "brief" in sama(checkout, "reweight", "--help")
