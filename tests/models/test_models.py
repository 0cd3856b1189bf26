"""Models by name, path and config."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import RobertaConfig, RobertaForSequenceClassification, ViTConfig

from samacli.errors import SamaError
from samacli.models import SMALL_RESNETS, load_model, load_processor, parameter_count
from samacli.recipe import Model


@pytest.mark.parametrize("name", SMALL_RESNETS)
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 32), (1, 28)])
def test_small_resnets_take_small_images(name: str, channels: int, side: int) -> None:
    model = load_model(
        Model(name=name), "image-classification", ["a", "b", "c"], num_channels=channels
    )
    assert model(torch.randn(2, channels, side, side)).logits.shape == (2, 3)


def test_resnet18_has_the_papers_size() -> None:
    # 11,173,962 parameters for 10 classes: the usual PyTorch ResNet-18 for CIFAR-10.
    model = load_model(Model(name="resnet18-cifar"), "image-classification", list("abcdefghij"))
    assert parameter_count(model) == (11_173_962, 11_173_962)


def test_resnet32_is_the_papers_with_projections() -> None:
    # 464,154 parameters where shortcuts are padded with zeros (He et al. 2016, option A); the two
    # that change width are 1×1 convolutions with batch norms here: 16·32 + 32·64 + 2·(32 + 64).
    model = load_model(Model(name="resnet32-small"), "image-classification", list("abcdefghij"))
    assert parameter_count(model)[0] == 464_154 + 16 * 32 + 32 * 64 + 2 * (32 + 64)


def test_a_saved_small_resnet_loads_by_its_path(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = load_model(
        Model(name="resnet8-small"), "image-classification", ["a", "b"], num_channels=1
    ).eval()
    model.save_pretrained(tmp_path)
    again = load_model(Model(name=str(tmp_path)), "image-classification", ["a", "b"]).eval()
    images = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(again(images).logits, model(images).logits)


def test_a_vision_model_from_a_config_takes_the_datas_size(tmp_path: Path) -> None:
    ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        patch_size=4, architectures=["ViTForImageClassification"],
    ).save_pretrained(tmp_path)  # fmt: skip
    model = load_model(
        Model(name=str(tmp_path), from_config=True),
        "image-classification",
        ["a", "b"],
        num_channels=1,
        image_size=8,
    )
    assert model(torch.randn(2, 1, 8, 8)).logits.shape == (2, 2)


def test_roberta_gets_a_head_for_the_classes(tmp_path: Path) -> None:
    config = RobertaConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=40, num_labels=2,
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    model = load_model(Model(name=str(tmp_path)), "text-classification", ["x", "y", "z"])
    assert model(torch.randint(5, 50, (2, 6))).logits.shape == (2, 3)
    assert model.config.id2label == {0: "x", 1: "y", 2: "z"}


def test_freezing_by_pattern(tiny_bert: Path) -> None:
    model = load_model(
        Model(name=str(tiny_bert), freeze=["*embeddings*"]), "text-classification", ["a", "b"]
    )
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if "embeddings" in name}
    for patterns, said in (
        (["*nothing*"], "no parameter's name matches"),
        (["*"], "no parameter to"),
    ):
        with pytest.raises(SamaError, match=said):
            load_model(
                Model(name=str(tiny_bert), freeze=patterns), "text-classification", ["a", "b"]
            )


def test_models_that_cannot_be_had_are_named(tmp_path: Path) -> None:
    with pytest.raises(SamaError, match="does not exist"):
        load_model(Model(name=str(tmp_path / "no")), "text-classification", ["a", "b"])
    with pytest.raises(SamaError, match="hub cannot be reached"):
        load_processor(Model(name="someone/something"), "text-classification")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SamaError, match="cannot be loaded"):
        load_model(Model(name=str(tmp_path)), "text-classification", ["a", "b"])
    with pytest.raises(SamaError, match="reads images"):
        load_processor(Model(name="resnet18-cifar"), "text-classification")


def _without_safetensors(tiny_bert: Path, folder: Path) -> dict[str, torch.Tensor]:
    """A copy of the model without its weights, and those."""
    shutil.copytree(tiny_bert, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return weights


def test_pickled_tensors_are_loaded(tiny_bert: Path, tmp_path: Path) -> None:
    weights = _without_safetensors(tiny_bert, tmp_path / "model")
    torch.save(weights, tmp_path / "model" / "pytorch_model.bin")
    model = load_model(Model(name=str(tmp_path / "model")), "text-classification", ["a", "b", "c"])
    for name, value in model.base_model.named_parameters():
        assert torch.equal(value, weights[f"bert.{name}"]), name


def test_pickles_of_more_than_tensors_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    _without_safetensors(tiny_bert, tmp_path / "model")
    torch.save({"weight": Path("/")}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(SamaError, match="hold more than tensors, which could run code"):
        load_model(Model(name=str(tmp_path / "model")), "text-classification", ["a", "b"])


def test_weights_of_nothing_that_the_model_has_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    _without_safetensors(tiny_bert, tmp_path / "model")
    torch.save({}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(SamaError, match="are none of its architecture's"):
        load_model(Model(name=str(tmp_path / "model")), "text-classification", ["a", "b"])


def test_a_model_without_its_tokenizer_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((tiny_bert / name).read_bytes())
    with pytest.raises(SamaError, match="tokenizer"):
        load_processor(Model(name=str(tmp_path)), "text-classification")


def test_weights_stored_in_half_precision_are_trained_in_float32(
    tiny_bert: Path, tmp_path: Path
) -> None:
    whole = load_model(Model(name=str(tiny_bert)), "text-classification", ["a", "b"])
    whole.bfloat16().save_pretrained(tmp_path)
    model = load_model(Model(name=str(tmp_path)), "text-classification", ["a", "b"])
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for ours, stored in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, stored.float())
