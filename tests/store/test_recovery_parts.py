"""What checkpoints are made of: trees, optimisers, random states, streams, batches in parts."""

from __future__ import annotations

import copy
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from samacli.data.batches import Beside, Mapped
from samacli.data.loader import Cycle, cycle, make_loader
from samacli.store.random_state import random_state, restore_random_state
from samacli.store.tree import appearing, read_tree, write_tree
from samacli.training.memory import in_parts, is_out_of_memory
from samacli.training.state import optimizer_state, restore_optimizer


class Rows(torch.utils.data.Dataset):
    """n rows of noise, as an encoded split gives them."""

    def __init__(self, x: Tensor, labels: Tensor) -> None:
        self.x, self.labels, self.lengths = x, labels.numpy(), None

    def __len__(self) -> int:
        return len(self.x)

    def __getitems__(self, rows: list[int]) -> dict[str, Tensor]:
        index = torch.tensor(rows)
        return {"x": self.x[index], "labels": torch.from_numpy(self.labels)[index], "index": index}


def stream(x: Tensor, labels: Tensor, size: int, seed: int) -> Cycle:
    rows: Any = Rows(x, labels)
    return cycle(make_loader(rows, size, shuffle=True, seed=seed, drop_last=True))


def test_a_tree_comes_back_to_the_bit(tmp_path: Path) -> None:
    whole = torch.randn(6, 4)
    tree = {
        "empty": {},
        "plain": [None, True, 3, 0.1 + 0.2, "ä", [], math.inf],
        "arrays": {"bool": np.array([True, False]), "f8": np.array([math.nan, -0.0])},
        "tensors": [whole, whole.t(), whole[2:3], torch.tensor(7), torch.zeros(0, 3)],
        "bf16": whole.bfloat16(),
        "tied": {"a": whole, "b": whole},
    }
    write_tree(tmp_path, "name", tree)
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}
    found = read_tree(tmp_path, "name")
    assert found["plain"] == tree["plain"]
    assert found["empty"] == {}
    for ours, theirs in zip(found["tensors"], tree["tensors"], strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(found["bf16"], tree["bf16"])
    assert torch.equal(found["tied"]["b"], whole)
    for name, array in tree["arrays"].items():
        assert found["arrays"][name].dtype == array.dtype
        assert found["arrays"][name].tobytes() == array.tobytes()


@pytest.mark.parametrize("tree", [{"a": object()}, {1: 2}, {"a": {3, 4}}])
def test_what_no_tree_can_hold_is_refused(tree: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_tree(tmp_path, "name", tree)


def test_a_directory_appears_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    with appearing(folder) as stage:
        (stage / "a").write_text("old")

    def fail() -> None:
        with appearing(folder) as stage:
            (stage / "a").write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (folder / "a").read_text() == "old"
    with appearing(folder) as stage:
        (stage / "b").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "b"]


OPTIMIZERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.9)),
    "adamw fused": lambda groups: torch.optim.AdamW(groups, lr=0.01, fused=True),
    "amsgrad": lambda groups: torch.optim.AdamW(groups, lr=0.01, amsgrad=True),
    "sgd momentum": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "sgd fused": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, fused=True),
    "sgd plain": lambda groups: torch.optim.SGD(groups, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 3])
def test_an_optimizer_goes_on_to_the_bit(name: str, before: int, tmp_path: Path) -> None:
    def new(model: nn.Module) -> torch.optim.Optimizer:
        weights = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        return OPTIMIZERS[name](
            [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        )

    def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    optimizer = new(model)
    train(model, optimizer, range(before))
    optimizer.param_groups[0]["lr"] *= 0.5  # a schedule's doing
    write_tree(tmp_path, "optimizer", optimizer_state(optimizer))
    other = copy.deepcopy(model)
    restored = new(other)
    restore_optimizer(restored, read_tree(tmp_path, "optimizer"))
    assert [group["lr"] for group in restored.param_groups] == [
        group["lr"] for group in optimizer.param_groups
    ]
    assert restored.param_groups[0].get("betas") == optimizer.param_groups[0].get("betas")
    train(model, optimizer, range(before, before + 3))
    train(other, restored, range(before, before + 3))
    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_other_parameters_take_no_optimizers_state() -> None:
    saved = optimizer_state(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1))
    with pytest.raises(ValueError, match="parameter group"):
        restore_optimizer(torch.optim.SGD(nn.Linear(2, 2, bias=False).parameters()), saved)


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    def draw() -> list[float]:
        normal = float(np.random.normal())  # of a pair, the second is kept
        return [random.gauss(0, 1), normal, float(torch.randn(())), random.random()]

    draw()
    write_tree(tmp_path, "random", random_state(torch.device("cpu")))
    expected = [draw() for _ in range(3)]
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    restore_random_state(read_tree(tmp_path, "random"), torch.device("cpu"))
    assert [draw() for _ in range(3)] == expected


@pytest.mark.parametrize("at", [0, 1, 4, 5, 6, 9, 10, 13])
def test_streams_go_on_without_reading_what_lies_before(at: int) -> None:
    read: list[int] = []

    def new() -> Beside:
        noted = Mapped(
            stream(torch.randn(42, 2), torch.zeros(42), 8, seed=1),
            lambda batch: (read.append(1), {**batch, "more": batch["index"] * 2})[1],
        )
        x = torch.randn(9, 2)
        first, then = (stream(x, torch.ones(9), 2, seed=s) for s in (2, 3))
        return Beside(noted, "clean", 6, first, then)

    def rows(batches: Beside, count: int) -> list[Any]:
        found = [next(batches) for _ in range(count)]
        return [
            (b["index"].tolist(), b["more"].tolist(), b["clean"]["index"].tolist()) for b in found
        ]

    whole = rows(new(), 24)
    cut = new()
    assert rows(cut, at) == whole[:at]
    other = new()
    other.load_state_dict(cut.state_dict())
    read.clear()
    assert rows(other, 24 - at) == whole[at:]
    assert len(read) == 24 - at


def test_the_random_state_is_the_same_after_going_on() -> None:
    """A loader's iterator draws from it when it is made, in the middle of an epoch too."""
    x, labels = torch.randn(40, 2), torch.zeros(40)
    whole = stream(x, labels, 8, seed=0)
    torch.manual_seed(3)
    for _ in range(7):
        next(whole)
    state, position = torch.get_rng_state(), whole.state_dict()
    next(whole)
    expected = torch.randn(3)
    other = stream(x, labels, 8, seed=0)
    other.load_state_dict(position)
    torch.set_rng_state(state)
    next(other)
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize("number", [1, 2, 4, 16, 64])
def test_parts_of_a_batch_have_its_loss_and_all_its_rows(number: int) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(13, 3), torch.randint(-1, 3, (13,))
    batch = {"logits": logits, "labels": labels, "name": "text", "scalar": torch.tensor(2.0)}
    found = list(in_parts(batch, number, labels >= 0))

    def loss(part: dict[str, Any]) -> Tensor:
        return nn.functional.cross_entropy(part["logits"], part["labels"], ignore_index=-1)

    total = sum(share * loss(part) for part, share in found)
    torch.testing.assert_close(total, loss(batch))
    told = torch.cat([part["logits"][part["labels"] >= 0] for part, _ in found])
    assert torch.equal(told, logits[labels >= 0])
    assert all(part["name"] == "text" and part["scalar"] == 2 for part, _ in found)
    assert len(found) <= min(number, 13)


def test_a_failed_allocation_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 58)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    with pytest.raises(RuntimeError) as wrong:
        torch.ones(2) @ torch.ones(3)
    assert not is_out_of_memory(wrong.value)
