"""A trained head serves the classes that it knows by name, whatever their order and number."""

from __future__ import annotations

import copy
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertTokenizerFast,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from samacli.data.text import tokenize
from samacli.models import head_note, load_model, load_processor
from samacli.recipe import Model

TEXT = "text-classification"
INPUTS = torch.tensor([[2, 7, 9, 11, 3], [2, 30, 12, 5, 3]])


def saved(folder: Path, tiny_bert: Path, names: list[str]) -> tuple[str, PreTrainedModel]:
    """A classifier of classes with these names, and its path."""
    torch.manual_seed(1)
    labels = {"num_labels": len(names), "ignore_mismatched_sizes": True}
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, **labels)
    torch.nn.init.normal_(model.classifier.weight)
    torch.nn.init.normal_(model.classifier.bias)
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: i for i, name in enumerate(names)}
    model.save_pretrained(folder)
    return str(folder), model.eval()


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(INPUTS).logits


@pytest.mark.parametrize(
    ("trained", "classes"),
    [
        (["pos", "neg"], ["neg", "pos"]),
        (["neg", "pos"], ["neg", "pos"]),
        (["c", "a", "b"], ["a", "b", "c"]),
        (["neutral", "pos", "neg"], ["neg", "pos"]),
        (["POSITIVE", "NEGATIVE"], ["negative", "positive"]),
        (["LABEL_0", "LABEL_1"], ["0", "1"]),
        (["10", "9"], ["9", "10"]),
    ],
)
def test_classes_keep_their_outputs(
    tmp_path: Path, tiny_bert: Path, trained: list[str], classes: list[str]
) -> None:
    path, before = saved(tmp_path / "model", tiny_bert, trained)
    model = load_model(Model(name=path), TEXT, classes)
    number = {name.removeprefix("LABEL_").lower(): i for i, name in enumerate(trained)}
    expected = logits(before)[:, [number[name] for name in classes]]
    assert torch.allclose(logits(model), expected, atol=1e-6)
    assert model.config.id2label == dict(enumerate(classes))
    assert head_note(Model(name=path), TEXT, classes) is None


@pytest.mark.parametrize("classes", [["neg", "neutral", "pos"], ["new", "pos"]])
def test_a_class_that_the_head_does_not_know_starts_afresh(
    tmp_path: Path, tiny_bert: Path, classes: list[str]
) -> None:
    path, before = saved(tmp_path / "model", tiny_bert, ["pos", "neg"])
    torch.manual_seed(0)
    first = logits(load_model(Model(name=path), TEXT, classes))
    torch.manual_seed(5)
    second = logits(load_model(Model(name=path), TEXT, classes))
    for place, name in enumerate(classes):
        same = torch.allclose(first[:, place], second[:, place], atol=1e-6)
        assert same == (name in ("pos", "neg")), name
    old = logits(before)
    assert torch.allclose(first[:, classes.index("pos")], old[:, 0], atol=1e-6)
    new = next(name for name in classes if name not in ("pos", "neg"))
    assert head_note(Model(name=path), TEXT, classes) == (
        f"the head of the model '{path}' was trained for other classes too (pos, neg); it is kept "
        f"for those of the same name, and starts afresh for: {new}"
    )


def test_a_head_of_other_classes_starts_afresh(tmp_path: Path, tiny_bert: Path) -> None:
    path, before = saved(tmp_path / "model", tiny_bert, ["ham", "spam"])
    fresh = [load_model(Model(name=path), TEXT, ["neg", "pos"]) for _ in range(2)]
    assert not torch.equal(fresh[0].classifier.weight, fresh[1].classifier.weight)
    assert fresh[0].classifier.weight.std() < 0.1  # the trained one's is near 1
    assert torch.equal(fresh[0].bert.pooler.dense.weight, before.bert.pooler.dense.weight)
    assert head_note(Model(name=path), TEXT, ["neg", "pos"]) == (
        f"the head of the model '{path}' was trained for other classes (ham, spam), so it starts "
        "afresh"
    )


def test_a_model_without_a_trained_head_has_nothing_to_say(tmp_path: Path, tiny_bert: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    model.bert.save_pretrained(tmp_path / "base")
    settings = Model(name=str(tmp_path / "base"))
    assert head_note(settings, TEXT, ["a", "b"]) is None
    torch.manual_seed(3)
    one = load_model(settings, TEXT, ["a", "b"]).classifier.weight
    torch.manual_seed(3)
    own = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=2)
    assert torch.equal(one, own.classifier.weight)  # and the same numbers are drawn


def test_an_image_model_s_head_is_matched_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    config.id2label = {0: "dog", 1: "cat", 2: "cow"}
    before = ResNetForImageClassification(config).eval()
    before.save_pretrained(tmp_path)
    model = load_model(Model(name=str(tmp_path)), "image-classification", ["cat", "cow", "dog"])
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        old, new = before(images).logits, model.eval()(images).logits
    assert torch.allclose(new, old[:, [1, 2, 0]], atol=1e-6)


def test_a_head_of_two_layers_is_matched_in_its_last(tmp_path: Path) -> None:
    """RoBERTa's head has a layer of the hidden width first, and that may be the classes' number."""
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=40, hidden_size=4, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=66, num_labels=4,
    )  # fmt: skip
    config.id2label = dict(enumerate("dcba"))
    before = RobertaForSequenceClassification(config).eval()
    torch.nn.init.normal_(before.classifier.out_proj.bias)
    before.save_pretrained(tmp_path)
    model = load_model(Model(name=str(tmp_path)), TEXT, list("abcd"))
    assert torch.equal(model.classifier.dense.weight, before.classifier.dense.weight)
    assert torch.allclose(logits(model), logits(before)[:, [3, 2, 1, 0]], atol=1e-6)


@pytest.mark.parametrize(("padding", "tokens"), [(1, 64), (0, 65)])
def test_a_tokenizer_without_a_limit_has_the_model_s(
    tmp_path: Path, tiny_bert: Path, padding: int, tokens: int
) -> None:
    """RoBERTa counts positions from behind the padding index."""
    config = RobertaConfig(
        vocab_size=200, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=66, pad_token_id=padding,
    )  # fmt: skip
    model = RobertaForSequenceClassification(config)
    model.save_pretrained(tmp_path)
    tokenizer = copy.copy(BertTokenizerFast.from_pretrained(tiny_bert))
    tokenizer.model_max_length = 10**30
    tokenizer.save_pretrained(tmp_path)
    found = load_processor(Model(name=str(tmp_path)), TEXT)
    assert found.model_max_length == tokens
    long = datasets.Dataset.from_dict({"text": ["ball " * 200, "ball"]})
    encoded = tokenize(
        long, ["text"], found, 128, content=np.arange(2).astype(np.uint64), cache_dir=tmp_path
    )
    assert [len(row) for row in encoded["input_ids"]] == [tokens, 3]
    assert encoded["truncated"] == [True, False]
    other = next(i for i in (5, 6) if i != padding)
    model(torch.full((1, tokens), other))  # so many are taken
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, tokens + 1), other))
