"""Models of timm through transformers' wrapper: the extra `vision`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from samacli.data.pixels import processor_layout
from samacli.errors import SamaError
from samacli.models import load_model, load_processor
from samacli.recipe import Model

Run = Callable[..., tuple[int, str, str]]
NETWORK = {
    "architecture": "test_resnet",  # timm's own for tests: half a million parameters
    "architectures": ["TimmWrapperForImageClassification"],
    "model_type": "timm_wrapper",
    "num_classes": 2,
    "label_names": ["dark", "light"],
    "pretrained_cfg": {
        "architecture": "test_resnet",
        "classifier": "fc",
        "crop_mode": "center",
        "crop_pct": 0.95,
        "first_conv": "conv1.0",
        "input_size": [3, 160, 160],
        "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "num_classes": 1000,
    },
}


@pytest.fixture
def network(tmp_path: Path) -> Path:
    folder = tmp_path / "network"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(NETWORK), encoding="utf-8")
    return folder


def _timm_is_there() -> str | None:
    """Why not, else None: a torchvision of another torch breaks it with errors of any kind."""
    try:
        importlib.import_module("timm")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def test_the_layout_is_timms() -> None:
    config = {
        "input_size": (3, 160, 160), "crop_pct": 0.95, "crop_mode": "center",
        "interpolation": "bicubic", "mean": (0.5, 0.4, 0.3), "std": (0.3, 0.2, 0.1),
    }  # fmt: skip
    layout = processor_layout(SimpleNamespace(data_config=config), None)
    # timm resizes the shorter side to floor(160 / 0.95) and cuts the middle out.
    assert (layout.size, layout.shortest_edge) == ((160, 160), 168)
    assert (layout.mean, layout.std) == ((0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
    assert layout.resample == Image.Resampling.BICUBIC
    squashed = SimpleNamespace(data_config={**config, "crop_mode": "squash"})
    assert processor_layout(squashed, 64).shortest_edge is None
    assert processor_layout(squashed, 64).size == (64, 64)
    assert processor_layout(SimpleNamespace(data_config=config), 64, 80).shortest_edge == 80


@pytest.mark.skipif(_timm_is_there() is None, reason="timm is there")
def test_without_timm_the_extra_is_named(network: Path) -> None:
    if importlib.util.find_spec("timm") is not None:
        pytest.skip(f"timm is there and broken: {_timm_is_there()}")
    model = Model(name=str(network), from_config=True)
    with pytest.raises(SamaError, match=r"one of timm's.*pip install 'samacli\[vision\]'"):
        load_model(model, "image-classification", ["dark", "light"])


@pytest.mark.skipif(_timm_is_there() is not None, reason=f"no timm here: {_timm_is_there()}")
@pytest.mark.parametrize("from_config", [True, False], ids=["from its config", "with its weights"])
def test_a_model_of_timm_prunes_and_is_read_again(
    run_sama: Run, network: Path, tmp_path: Path, from_config: bool
) -> None:
    generator = np.random.default_rng(0)
    for shade, name in enumerate(("dark", "light")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = generator.integers(0, 80, (40, 40, 3)) + 150 * shade
            Image.fromarray(pixels.astype("uint8")).save(tmp_path / f"photos/{name}/{i}.png")
    if not from_config:
        fresh = Model(name=str(network), from_config=True)
        load_model(fresh, "image-classification", ["dark", "light"]).save_pretrained(network)
    code, _, err = run_sama(
        "prune", "--train", f"{tmp_path / 'photos'}/",
        "--image-column", "image", "--model", network, "--keep", "0.5", "-o", tmp_path / "out",
        f"model.from_config={from_config}", "data.image_size=32", "training.steps=2",
        "training.batch_size=4", "prune.baselines=[]", "prune.folds=2",
    )  # fmt: skip
    assert code == 0, err
    saved = Model(name=str(tmp_path / "out" / "model"))
    again = load_model(saved, "image-classification", ["dark", "light"])
    assert again(pixel_values=_zeros()).logits.shape == (1, 2)
    processor = load_processor(saved, "image-classification")
    assert processor_layout(processor, None).size == (32, 32)


def _zeros() -> object:
    import torch

    return torch.zeros(1, 3, 32, 32)
