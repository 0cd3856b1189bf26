"""The product on the shards of two processes (FSDP2) against the product in one process."""

from __future__ import annotations

import math
import os
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn

from samacli.meta.adaptation import adapt

from .reference import relative_error
from .test_generic_adaptation import Lamb, Lion

OPTIM = torch.optim
SHARDS, COPIES = (2,), (2, 1)  # the device mesh: two shards, or two replicas of one shard
CASES: dict[str, tuple[Any, dict[str, Any], tuple[int, ...], int]] = {
    "sgd": (OPTIM.SGD, {}, SHARDS, 1),
    "sgd momentum": (OPTIM.SGD, {"momentum": 0.9}, SHARDS, 3),
    "sgd momentum, replicas": (OPTIM.SGD, {"momentum": 0.9}, COPIES, 3),
    "sgd dampening, first step": (OPTIM.SGD, {"momentum": 0.9, "dampening": 0.3}, SHARDS, 1),
    "sgd dampening": (OPTIM.SGD, {"momentum": 0.9, "dampening": 0.3}, SHARDS, 3),
    "sgd dampening decay": (
        OPTIM.SGD, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}, SHARDS, 3),
    "adamw fused": (OPTIM.AdamW, {"fused": True}, SHARDS, 3),
    "adamw fused, replicas": (OPTIM.AdamW, {"fused": True}, COPIES, 3),
    "adamw foreach": (OPTIM.AdamW, {"foreach": True}, SHARDS, 3),
    "adam amsgrad decay": (OPTIM.Adam, {"amsgrad": True, "weight_decay": 0.1}, SHARDS, 3),
    "adagrad": (OPTIM.Adagrad, {"lr_decay": 0.1}, SHARDS, 3),
    "nadam": (OPTIM.NAdam, {}, SHARDS, 3),
    "generic": (Lamb, {}, SHARDS, 3),
    "generic, sign update": (Lion, {}, SHARDS, 3),
}  # fmt: skip


def net() -> nn.Module:
    """With parameters of which the second process holds no row, and one that is frozen."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Embedding(10, 3), nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 1),
        nn.Linear(1, 1, bias=False).requires_grad_(False),
    )  # fmt: skip
    return model.double()


def product(model: nn.Module, case: str) -> tuple[float, list[Tensor], list[Tensor]]:
    """The slope, the products in place of x, and the local memory that x was in."""
    make, options, _, steps = CASES[case]
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = make(params, lr=0.05, **options)
    torch.manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        # of the embedding, the rows of the first process alone ever get a gradient
        model(torch.randint(0, 5, (8, 4))).square().mean().backward()
        optimizer.step()
    x = [p.detach().clone().sin() for p in params]
    local = [getattr(w, "to_local", lambda w=w: w)() for w in x]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*sama-na")
        return adapt(optimizer, params, x), x, local


def process(rank: int, folder: Path) -> None:
    """One of the two processes: what it finds goes to a file."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2,
        timeout=timedelta(seconds=60),
    )  # fmt: skip
    meshes = {
        shape: init_device_mesh("cpu", shape, mesh_dim_names=("copy", "shard")[-len(shape) :])
        for shape in (SHARDS, COPIES)
    }
    found = {}
    for case, (_, _, shape, _) in CASES.items():
        slope, x, local = product(fully_shard(net(), mesh=meshes[shape]), case)
        same_memory = all(
            w.to_local().data_ptr() == s.data_ptr() for w, s in zip(x, local, strict=True)
        )
        whole, lengths = [w.full_tensor() for w in x], [len(s) for s in local]
        found[case] = (float(slope), whole, same_memory, lengths)
    torch.save(found, folder / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)  # see `tests.meta.replicas`


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("shards")
    torch.multiprocessing.spawn(process, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_same_as_in_one_process(found: list[dict[str, Any]], case: str) -> None:
    slope, expected, _ = product(net(), case)
    (first, product_first, *_), (second, product_second, *_) = (f[case] for f in found)
    assert first == second
    assert math.isclose(first, slope, rel_tol=1e-9)
    assert relative_error(product_first, expected) < 1e-9
    assert relative_error(product_second, expected) < 1e-9


def test_shards_are_written_in_place_and_may_be_empty(found: list[dict[str, Any]]) -> None:
    assert all(f[case][2] for f in found for case in CASES)
    rows = [f["sgd"][3] for f in found]
    assert 0 in rows[1]
    assert 0 not in rows[0]
