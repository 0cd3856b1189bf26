"""What a run shows its observers: the right features, the right rows, and nothing changed by it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samacli.errors import SamaError
from samacli.pruning.scores import Forgetting
from samacli.training.embed import classifier_features, last_linear
from samacli.training.loop import fit
from samacli.training.observation import Observation, of_all_processes
from samacli.training.runtime import make_accelerator
from tests.meta.replicas import run_replicas
from tests.training.test_loop import Classifier, endless, problem, settings


class Witness:
    """Remembers what it was shown."""

    def __init__(self, needs_features: bool = True) -> None:
        self.needs_features = needs_features
        self.seen: list[Observation] = []

    def observe(self, seen: Observation) -> None:
        self.seen.append(seen)


class Checks(Witness):
    """Whether the logits are what the layer makes of the features, while it still is the same."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def observe(self, seen: Observation) -> None:
        super().observe(seen)
        assert seen.features is not None
        assert seen.bias == (self.layer.bias is not None)
        with torch.no_grad():
            torch.testing.assert_close(self.layer(seen.features), seen.logits)


def text(model: Any) -> Callable[[Tensor], dict[str, Tensor]]:
    return lambda rows: {
        "input_ids": torch.randint(5, model.config.vocab_size, (len(rows), 6)),
        "attention_mask": torch.ones(len(rows), 6, dtype=torch.long),
    }


def images(size: int) -> Callable[[Tensor], dict[str, Tensor]]:
    return lambda rows: {"pixel_values": torch.randn(len(rows), 3, size, size)}


def tiny(name: str) -> tuple[nn.Module, nn.Linear, Callable[[Tensor], dict[str, Tensor]]]:
    """A classifier of 3 classes, its last linear layer, and inputs for it."""
    import transformers as t

    from samacli.models import SMALL_RESNETS, SmallResNetConfig, SmallResNetForImageClassification

    small: dict[str, Any] = {
        "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "num_labels": 3,
    }  # fmt: skip
    model: Any
    if name == "bert":
        model = t.BertForSequenceClassification(t.BertConfig(vocab_size=40, **small))
        return model, model.classifier, text(model)
    if name == "roberta":
        model = t.RobertaForSequenceClassification(t.RobertaConfig(vocab_size=40, **small))
        return model, model.classifier.out_proj, text(model)
    if name == "vit":
        config = t.ViTConfig(image_size=8, patch_size=4, **small)
        model = t.ViTForImageClassification(config)
        return model, model.classifier, images(8)
    shape = {**SMALL_RESNETS["resnet8-small"], "hidden_sizes": [8, 8, 8], "embedding_size": 8}
    model = SmallResNetForImageClassification(
        SmallResNetConfig(num_channels=3, layer_type="basic", num_labels=3, **shape)
    )
    return model, model.classifier[-1], images(8)


@pytest.mark.parametrize("name", ["bert", "roberta", "vit", "resnet"])
def test_features_are_what_the_logits_are_linear_in(name: str) -> None:
    torch.manual_seed(0)
    model, layer, inputs = tiny(name)
    assert last_linear(model) is layer

    def batches() -> Iterator[dict[str, Tensor]]:
        while True:
            rows = torch.randperm(20)[:6]
            yield {**inputs(rows), "labels": rows % 3, "index": rows}

    witness = Checks(layer)
    fit(model, batches(), 3, settings(), make_accelerator("cpu", "fp32"), observers=[witness])
    assert [seen.progress for seen in witness.seen] == [0, 1 / 3, 2 / 3]


def run(observers: list[Any], **training: Any) -> nn.Module:
    torch.manual_seed(0)
    x, y = problem(64, seed=0)
    model = Classifier(dropout=0.2)
    config = settings(**training)
    fit(model, endless(x, y, 16), 6, config, make_accelerator("cpu", "fp32"), observers=observers)
    return model


def test_looking_on_changes_nothing() -> None:
    watched, alone = run([Witness(), Witness(False)]), run([])
    for ours, theirs in zip(watched.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_every_step_is_shown_once_whole_and_features_only_on_request() -> None:
    witness = Witness(needs_features=False)
    run([witness], accumulation=2)
    x, y = problem(64, seed=0)
    expected = endless(x, y, 16)
    assert [seen.progress for seen in witness.seen] == [i / 6 for i in range(6)]
    for seen in witness.seen:
        both = [next(expected) for _ in range(2)]
        assert torch.equal(seen.index, torch.cat([batch["index"] for batch in both]))
        assert torch.equal(seen.labels, torch.cat([batch["labels"] for batch in both]))
        assert seen.features is None
        assert not seen.logits.requires_grad
        torch.testing.assert_close(seen.probabilities.sum(1), torch.ones(32))


def test_a_row_that_comes_twice_in_a_step_is_shown_a_second_time() -> None:
    """Where an epoch ends within a step: 24 rows, 7 batches of 8."""
    witness = Witness(needs_features=False)
    x, y = problem(24, seed=0)
    fit(
        Classifier(), endless(x, y, 8), 1, settings(accumulation=7),
        make_accelerator("cpu", "fp32"), observers=[witness],
    )  # fmt: skip
    assert [len(seen.index) for seen in witness.seen] == [24, 24, 8]
    assert all(len(seen.index.unique()) == len(seen.index) for seen in witness.seen)


@pytest.mark.parametrize("derivative", ["contraction", "one-sided", "forward"])
def test_a_meta_level_shows_the_base_pass_and_not_its_perturbed_ones(derivative: str) -> None:
    from samacli.bilevel.history import ExampleHistory
    from samacli.bilevel.level import MetaLevel
    from samacli.bilevel.reweighter import Reweighter
    from samacli.recipe import Meta

    torch.manual_seed(0)
    x, y = problem(64, seed=0)
    config = Meta.model_validate({"derivative": derivative, "unroll": 1})
    level = MetaLevel(
        config,
        Reweighter(["loss"], 3, hidden=4),
        batches=endless(x, y, 8, seed=5),
        history=ExampleHistory(64, 3, targets=False),
    )
    model = Classifier(dropout=0.2)
    layer = model.net[-1]
    assert isinstance(layer, nn.Linear)
    witness = Checks(layer)
    accelerator = make_accelerator("cpu", "fp32")
    fit(
        model, endless(x, y, 16), 6, settings(), accelerator,
        meta_level=level, observers=[witness],
    )  # fmt: skip
    assert len(witness.seen) == 6


def test_a_model_without_one_vector_an_example_is_refused() -> None:
    class EveryToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Any:
            from types import SimpleNamespace

            return SimpleNamespace(logits=self.head(x[:, None].expand(-1, 4, -1))[:, -1])

    x, y = problem(32, seed=0)
    with pytest.raises(SamaError, match="to every token or patch"):
        fit(
            EveryToken(), endless(x, y, 8), 2, settings(), make_accelerator("cpu", "fp32"),
            observers=[Witness()],
        )  # fmt: skip
    unused = Classifier()
    unused.other = nn.Linear(2, 3)
    with pytest.raises(SamaError, match="takes no part in its forward pass"):
        classifier_features(unused, {"x": x})
    with pytest.raises(SamaError, match="ends in no linear layer"):
        last_linear(nn.Conv2d(3, 3, 1))


def _in_two_processes(rank: int, port: int) -> dict[str, Tensor]:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    accelerator = make_accelerator("cpu", "fp32")
    assert accelerator.num_processes == 2
    own = Observation(
        index=torch.tensor([2**40 + rank, rank]),
        labels=torch.tensor([-1, rank]),
        logits=torch.tensor([[0.1, torch.inf], [rank, 2.0]]),
        features=torch.full((2, 3), 0.3 + rank),
        progress=0.5,
    )
    joined = of_all_processes(own, accelerator)
    assert joined.features is not None

    x, y = problem(24, seed=0)

    def batches() -> Iterator[dict[str, Tensor]]:
        order = torch.Generator().manual_seed(0)
        while True:  # an epoch's batches in turn, as the loader deals them out
            for rows in list(torch.randperm(24, generator=order).split(4))[rank::2]:
                yield {"x": x[rows], "labels": y[rows], "index": rows}

    torch.manual_seed(0)
    witness, forgetting = Witness(), Forgetting(24)
    config = settings(optimizer={"name": "sgd", "learning_rate": 0.3})
    fit(Classifier(), batches(), 18, config, accelerator, observers=[witness, forgetting])
    return {
        "index": joined.index,
        "labels": joined.labels,
        "logits": joined.logits,
        "features": joined.features,
        "rows": torch.stack([seen.index for seen in witness.seen]),
        "right": torch.stack([seen.logits.argmax(-1) == seen.labels for seen in witness.seen]),
        "forgotten": torch.from_numpy(forgetting.result()),
    }


def test_all_processes_are_shown_the_batches_of_all(tmp_path: Path) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one, two = run_replicas(_in_two_processes, tmp_path, port)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=0)
    assert one["index"].tolist() == [2**40, 0, 2**40 + 1, 1]
    assert one["labels"].tolist() == [-1, 0, -1, 1]
    expected = torch.tensor([[0.1, torch.inf], [0, 2], [0.1, torch.inf], [1, 2]])
    assert torch.equal(one["logits"], expected)
    assert torch.equal(one["features"], torch.tensor([0.3, 0.3, 1.3, 1.3])[:, None].expand(4, 3))

    # rows change process from epoch to epoch, and yet every event is counted
    rows, right = one["rows"].numpy(), one["right"].numpy()
    assert np.array_equal(np.bincount(rows.ravel()), np.full(24, 6)), "each once an epoch"
    for row in range(24):
        answers = right[rows == row]
        events = (answers[:-1] & ~answers[1:]).sum() if answers.any() else 6
        assert one["forgotten"][row] == events
