"""Image training at its options: the same run whatever the memory format, compiled or not."""

from __future__ import annotations

import functools
import io
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ConvNextImageProcessorPil,
    ResNetConfig,
    ViTConfig,
    set_seed,
)

from samacli.methods.sama import fit_sama
from samacli.recipe import load_recipe
from samacli.runs.evaluate import evaluate
from samacli.runs.prune import prune
from samacli.training import experiment as experiment_module
from samacli.training.experiment import Experiment

COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200)}


def picture(colour: str, size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    noise = generator.integers(-50, 50, (size[1], size[0], 3))
    return Image.fromarray(np.clip(noise + COLOURS[colour], 0, 255).astype(np.uint8))


def image_folder(root: Path, *, train: int = 8, validation: int = 4) -> Path:
    """As ImageNet is kept: train/<class>/x.JPEG and val/<class>/x.JPEG, of many sizes and modes."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("val", validation)):
        for colour in COLOURS:
            (root / split / colour).mkdir(parents=True)
            for i in range(count):
                size = tuple(int(side) for side in generator.integers(30, 60, 2))
                image = picture(colour, size, generator)
                if i == 0:
                    image = image.convert("CMYK")  # ImageNet has some of these, too
                image.save(root / split / colour / f"{i}.JPEG", quality=95)
    return root


def save_resnet(folder: Path) -> Path:
    """A tiny ResNet's config, and a processor as ResNet-50's on the hub, but for its size."""
    ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="bottleneck",
        architectures=["ResNetForImageClassification"],
    ).save_pretrained(folder)  # fmt: skip
    ConvNextImageProcessorPil(size={"shortest_edge": 224}, crop_pct=0.875).save_pretrained(folder)
    return folder


def digits(*overrides: str) -> Experiment:
    recipe = load_recipe(
        "demo-vision",
        [
            "training.steps=12",
            "training.batch_size=16",
            "meta.warmup=0",
            "meta.unroll=1",
            "meta.learning_rate=0.02",
            "model.config={hidden_sizes: [8, 16], depths: [1, 1], embedding_size: 8}",
            "data.max_train_rows=100",
            "training.augment=[crop, flip, cutout]",
            "training.schedule=one-cycle",
            *overrides,
        ],
    )
    return Experiment.prepare(recipe, device="cpu")


def trained(experiment: Experiment) -> tuple[list[torch.Tensor], np.ndarray, list[torch.Tensor]]:
    """Parameters after SAMA, the rows' weights, and parameters after plain training."""
    run, scored = fit_sama(experiment, 0, "sama", features=["loss", "uncertainty"])
    plain = experiment.fit_plainly(experiment.train, 0, "plain")
    return [*run.model.parameters()], scored.weight, [*plain.model.parameters()]


def in_contiguous_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(experiment_module, "memory_format", lambda device: torch.contiguous_format)


@pytest.fixture(scope="module")
def contiguous() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        in_contiguous_memory(patch)
        return trained(digits())


def assert_alike(one: Any, other: Any) -> None:
    for ours, theirs in zip([*one[0], *one[2]], [*other[0], *other[2]], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-4)
    assert np.abs(one[1] - other[1]).max() < 1e-2
    assert one[1].std() > 0.01, "weights were learnt"


def test_the_memory_format_changes_nothing_but_rounding(contiguous: Any) -> None:
    found = trained(digits())
    convolution = next(p for p in found[0] if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1)
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    assert not convolution.is_contiguous()
    assert_alike(found, contiguous)


def test_compiled_passes_change_nothing_but_rounding(
    contiguous: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a backend that needs no C++ compiler: what is traced, and when, is the same."""
    calls = []
    compile_ = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", lambda model: calls.append(model) or compile_(model))
    in_contiguous_memory(monkeypatch)
    found = trained(digits("training.compile=true"))
    assert len(calls) == 2
    assert_alike(found, contiguous)


def test_an_image_folder_is_pruned_by_the_imagenet_recipe(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "set")
    (root / "train" / "red" / "3.JPEG").write_bytes(b"")
    recipe = load_recipe(
        "imagenet-resnet50",
        [
            f"data.path={root}",
            f"model.name={save_resnet(tmp_path / 'net')}",
            "data.image_size=16",
            "data.shortest_edge=18",
            "data.bad_images=skip",
            "data.workers=1",
            "training.steps=12",
            "training.batch_size=8",
            "training.precision=fp32",
            "meta.batch_size=8",
            "prune.keep=[0.5]",
            "prune.baselines=[]",
        ],
    )
    result = prune(recipe, tmp_path / "out", device="cpu")
    assert result.metrics["rows"]["train"] == 23
    assert result.metrics["rows"]["test"] == 12
    assert result.kept == 12
    # What is saved sees images as evaluation did: resized, and cut out of the middle.
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out" / "model").eval()
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out" / "model")
    right = []
    for path in sorted((root / "val").rglob("*.JPEG")):
        pixels = processor(Image.open(path), return_tensors="pt")
        assert pixels["pixel_values"].shape == (1, 3, 16, 16)
        answer = model(**pixels).logits.argmax().item()
        right.append(model.config.id2label[answer] == path.parent.name)
    accuracy = result.metrics["methods"]["sama"]["accuracy"][0]
    assert np.mean(right) == pytest.approx(accuracy)
    shutil.copytree(root / "val", tmp_path / "again" / "test")
    again = evaluate(tmp_path / "out" / "model", str(tmp_path / "again"), device="cpu")
    assert again.accuracy == pytest.approx(accuracy)


def test_a_pretrained_vision_transformer_on_parquet(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=list(COLOURS))}
    )
    for split, count in (("train", 36), ("test", 12)):
        rows: dict[str, list[Any]] = {"picture": [], "kind": []}
        for i in range(count):
            buffer = io.BytesIO()
            picture(list(COLOURS)[i % 3], (20, 24), generator).save(buffer, format="PNG")
            rows["picture"].append({"bytes": buffer.getvalue(), "path": None})
            rows["kind"].append(i % 3)
        (tmp_path / "set").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features).to_parquet(
            str(tmp_path / "set" / f"{split}.parquet")
        )
    set_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=16, patch_size=8,
    )  # fmt: skip
    AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path / "vit")
    ConvNextImageProcessorPil(size={"shortest_edge": 16}, crop_pct=0.8).save_pretrained(
        tmp_path / "vit"
    )
    recipe = load_recipe(
        None,
        [
            "task=image-classification",
            f"data.path={tmp_path / 'set'}",
            "data.test=test",
            "data.columns={image: picture, label: kind}",
            "data.memory_limit_mb=0",
            "data.workers=0",
            f"model.name={tmp_path / 'vit'}",
            "training.steps=30",
            "training.batch_size=12",
            "training.precision=fp32",
            "training.optimizer.learning_rate=1e-2",
        ],
    )
    experiment = Experiment.prepare(recipe, device="cpu")
    assert experiment.train.statistics.shortest_edge == 20
    run = experiment.fit_plainly(experiment.train, 0, "plain")
    found = experiment.evaluate(run.model)
    assert found is not None
    assert found.accuracy > 0.9, "the colours are easy to tell apart"
