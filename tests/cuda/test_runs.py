"""Whole runs on the device: what they learn, out of memory, checkpoint and resume, waiting."""

from __future__ import annotations

import json
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from samacli.errors import Interrupted
from samacli.runs.prune import prune
from samacli.runs.reweight import reweight
from tests.conftest import text_recipe

Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("correction", [False, True], ids=["weights", "corrected"])
def test_wrong_labels_are_found(
    precision: str, correction: bool, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path,
    device: torch.device,
) -> None:  # fmt: skip
    recipe = text_recipe(
        texts, tiny_bert, f"training.precision={precision}", "training.steps=120",
        f"reweight.correction={str(correction).lower()}", "reweight.baselines=[noisy]",
    )  # fmt: skip
    found = reweight(recipe, tmp_path / "out", device=device.type)  # type: ignore[arg-type]
    assert found.noise is not None
    assert found.noise["average_precision"] > 0.6, "chance is 0.25"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_images_are_pruned_with_their_pixels_on_the_device(
    precision: str, tmp_path: Path, device: torch.device
) -> None:
    from samacli.recipe import load_recipe

    recipe = load_recipe(
        "demo-vision",
        ["training.steps=40", "repeats=1", f"training.precision={precision}",
         "data.max_train_rows=300", "prune.scores=[sama, aum, el2n]", "prune.keep=[0.7]",
         "training.augment=[crop, flip, cutout]",
         "model.config={hidden_sizes: [16, 32], depths: [1, 1], embedding_size: 16}"],
    )  # fmt: skip
    prune(recipe, tmp_path / "out", device=device.type)  # type: ignore[arg-type]
    scores = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    assert np.isfinite(scores[["score", "weight", "aum", "el2n"]].to_numpy()).all()
    assert scores["keep"].sum() == 210


class Ear:
    """A progress that remembers what it was told, and may stop the run at a step."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.said: list[str] = []
        self._stop_at, self._steps = stop_at, 0

    def task(self, description: str, total: int) -> Any:
        import contextlib

        @contextlib.contextmanager
        def within() -> Iterator[Any]:
            yield self

        return within()

    def expect(self, *told: Any) -> None:
        pass

    def advance(self, steps: int = 1) -> None:
        self._steps += 1
        if self._steps == self._stop_at:
            signal.raise_signal(signal.SIGINT)

    def note(self, message: str) -> None:
        self.said.append(message)

    warn = note


def test_a_run_that_was_stopped_goes_on_to_the_same_end(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path, device: torch.device
) -> None:
    recipe = text_recipe(
        texts, tiny_bert, "training.steps=24", "checkpoint.every_steps=4",
        "reweight.baselines=[]", "reweight.correction=true",
    )  # fmt: skip
    where: Any = device.type
    reweight(recipe, tmp_path / "whole", device=where)
    ear = Ear(stop_at=14)
    with pytest.raises(Interrupted):
        reweight(recipe, tmp_path / "cut", device=where, progress=ear)
    reweight(recipe, tmp_path / "cut", device=where, resume=True)
    tables = [pd.read_parquet(tmp_path / name / "scores.parquet") for name in ("whole", "cut")]
    whole, cut = (table.select_dtypes("number").to_numpy() for table in tables)
    # A GPU may add in another order; a run that lost its state would be far off.
    np.testing.assert_allclose(cut, whole, rtol=1e-2, atol=1e-3)


def test_out_of_memory_halves_the_batch(
    texts: dict[str, Path], tiny_bert: Path, tmp_path: Path, cuda: torch.device
) -> None:
    """The limit is set between what half of a batch needs and what a whole one does."""

    def measured(batch_size: int, name: str, ear: Ear) -> dict[str, Any]:
        recipe = text_recipe(
            texts, tiny_bert, f"training.batch_size={batch_size}", "training.steps=3",
            "model.from_config=true", "reweight.baselines=[noisy]", "data.meta=null",
            "model.config={hidden_size: 512, intermediate_size: 4096, num_hidden_layers: 4, "
            "num_attention_heads: 8}",
        )  # fmt: skip
        from samacli.training.experiment import Experiment

        experiment = Experiment.prepare(recipe, device="cuda", progress=ear)  # type: ignore[arg-type]
        fit = experiment.fit_plainly(experiment.train, 0, "run")
        torch.cuda.empty_cache()
        return {"peak": fit.peak_memory_bytes, "losses": [loss for _, loss, _ in fit.curve]}

    half, whole = (measured(size, str(size), Ear()) for size in (200, 400))
    assert whole["peak"] > 1.5 * half["peak"]
    total = torch.cuda.get_device_properties(cuda).total_memory
    torch.cuda.set_per_process_memory_fraction((half["peak"] + whole["peak"]) / 2 / total)
    try:
        ear = Ear()
        cut = measured(400, "cut", ear)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("out of memory; from here on" in said for said in ear.said)
    assert cut["losses"] == pytest.approx(whole["losses"], rel=1e-3)


class Steps:
    """From one step of the base optimiser to a later one, note where the host waits."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.count = 0
        self._caught: Any = None
        self.places: list[str] = []

    def __enter__(self) -> Steps:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self._handle = register_optimizer_step_post_hook(self._after)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()
        torch.cuda.set_sync_debug_mode("default")

    def _after(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        if sum(p.numel() for g in optimizer.param_groups for p in g["params"]) < 5_000:
            return  # that of λ
        self.count += 1
        if self.count == self.first:
            self._caught = warnings.catch_warnings(record=True)
            self._found = self._caught.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
        elif self.count == self.last:
            torch.cuda.set_sync_debug_mode("default")
            self.places = [
                f"{Path(w.filename).name}:{w.lineno}"
                for w in self._found
                if "synchronizing" in str(w.message)
            ]
            self._caught.__exit__(None, None, None)


@pytest.mark.parametrize("method", ["noisy", "sama"])
def test_a_training_step_does_not_wait_for_the_device(
    method: str, texts: dict[str, Path], tiny_bert: Path, cuda: torch.device
) -> None:
    from samacli.methods import run_method
    from samacli.training.experiment import Experiment

    recipe = text_recipe(
        texts, tiny_bert, "training.steps=40", "reweight.correction=true", "meta.warmup=0",
        "checkpoint.every_seconds=null",
    )  # fmt: skip
    experiment = Experiment.prepare(recipe, device="cuda")
    with Steps(10, 20) as steps:
        run_method(experiment, method, 0)
    assert steps.count >= 20
    assert not steps.places, f"in ten steps the host waited at {sorted(set(steps.places))}"


def test_the_command_line_takes_cuda(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path, device: torch.device
) -> None:
    code, _, err = run_sama(
        "reweight", "--train", texts["noisy"], "--meta", texts["clean"], "--test", texts["test"],
        "--device", device.type, "-o", tmp_path / "out", f"model.name={tiny_bert}",
        "training.steps=4", "data.columns.true_label=truth", "reweight.baselines=[]",
    )  # fmt: skip
    assert code == 0, err
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert device.type in json.dumps(metrics["environment"])
