"""What trackers are told, and that they are told nothing unless asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samacli.errors import SamaError
from samacli.training import tracking
from samacli.training.runtime import make_accelerator

Run = Callable[..., tuple[int, str, str]]


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    tracking.check_trackers([])
    with pytest.raises(SamaError, match="pip install wandb"):
        tracking.check_trackers(["wandb"])


def test_nothing_is_told_unless_asked(tmp_path: Path) -> None:
    accelerator = make_accelerator("cpu", "fp32")
    tracking.start_tracking(accelerator, [], tmp_path, {})
    tracking.track_step(accelerator, "sama", 1.0, 2.0)
    assert accelerator.trackers == []
    assert not list(tmp_path.iterdir())


def test_tensorboard_writes_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    accelerator = make_accelerator("cpu", "fp32")
    settings = {"training": {"steps": 4, "clip_norm": None, "augment": ["crop"]}}
    tracking.start_tracking(accelerator, ["tensorboard"], tmp_path, settings)
    tracking.track_step(accelerator, "sama, seed 0", 1.0, math.nan)
    accelerator.end_training()
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_wandb_writes_into_the_folder_and_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    accelerator = make_accelerator("cpu", "fp32")
    tracking.start_tracking(accelerator, ["wandb"], tmp_path / "logs", {"training": {"steps": 4}})
    tracking.track_step(accelerator, "sama, seed 0", 1.0, math.nan)
    accelerator.end_training()
    assert list((tmp_path / "logs").rglob("*.wandb"))
    assert not (tmp_path / "wandb").exists()


def test_a_run_tells_losses_accuracy_and_settings(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    told: list[tuple[int, dict[str, float]]] = []
    kept: dict[str, Any] = {}
    ended = []

    class Recorder:
        """A tracker as Accelerate has them."""

        name, requires_logging_directory, main_process_only = "tensorboard", True, False

        def __init__(self, run_name: str, logging_dir: str, **_: Any) -> None:
            assert Path(logging_dir).parent == tmp_path / "logs"

        def start(self) -> None: ...
        def store_init_configuration(self, values: dict[str, Any]) -> None:
            kept.update(values)

        def log(self, values: dict[str, float], step: int, **_: Any) -> None:
            told.append((step, values))

        def finish(self) -> None:
            ended.append(True)

    from accelerate import accelerator

    monkeypatch.setitem(accelerator.LOGGER_TYPE_TO_CLASS, "tensorboard", Recorder)
    monkeypatch.setattr(tracking, "filter_trackers", lambda names, folder: names)
    monkeypatch.setattr(tracking, "check_trackers", lambda names: None)
    monkeypatch.setenv("HF_TOKEN", "wordlikesecret")
    code, _, err = run_sama(
        "reweight", "--train", texts["noisy"], "--meta", texts["clean"], "--test", texts["test"],
        "--model", tiny_bert, "--baselines", "noisy", "--track", "tensorboard",
        f"track_folder={tmp_path / 'logs'}", "description=wordlikesecret", "training.steps=4",
        "training.batch_size=8", "training.precision=fp32", "--output", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    steps = [step for step, _ in told]
    assert steps == sorted(steps)
    assert max(steps) == 12, "three trainings: noisy, sama, and of the export"
    names = {name for _, values in told for name in values}
    run = "sama, seed 0"
    assert {f"{run}/base loss", f"{run}/meta loss", f"{run}/accuracy"} <= names
    assert "noisy, seed 0/accuracy" in names
    assert all(math.isfinite(value) for _, values in told for value in values.values())
    assert kept["training.steps"] == 4
    assert kept["description"] == "***"
    assert ended == [True]
