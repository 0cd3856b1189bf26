"""Several replicas against one process on the joined batch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from samacli.meta import (
    BilevelProblem,
    DataParallel,
    MetaWeightNet,
    WeightingProblem,
    average,
    direction,
    meta_gradient,
    outputs_and_meta_gradient,
    riding,
    weighting_meta_gradient,
)
from samacli.meta import distributed as distributed_module
from samacli.meta.distributed import Average
from tests.meta.problems import CLASSES, batch, logits, meta_loss, mlp
from tests.meta.reference import relative_error
from tests.meta.replicas import run_replicas

SIZE = 2
GENERAL: dict[str, dict[str, Any]] = {
    "sama, forward": {"method": "sama"},
    "sama, central": {"method": "sama", "derivative": "central"},
    "sama, one-sided": {"method": "sama", "derivative": "one-sided"},
    "sama, double-backward": {"method": "sama", "derivative": "double-backward"},
    "sama-na": {"method": "sama-na"},
    "neumann": {"method": "neumann", "iterations": 3},
    "cg": {"method": "cg", "iterations": 4, "damping": 1.0},
    "unrolled": {"method": "unrolled"},
}
WEIGHTING: dict[str, dict[str, Any]] = {
    "weighting, central": {"derivative": "central"},
    "weighting, forward": {"derivative": "forward"},
    "weighting, contraction": {"derivative": "contraction"},
}
# differences are compared with exact values of the joined batch
TOLERANCE = {"sama, central": 1e-6, "sama, one-sided": 1e-3, "weighting, central": 1e-6}


class Weight(nn.Module):
    """Sample weights that one example has whatever batch it is in."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = MetaWeightNet(1, CLASSES, hidden=8, normalize=False)
        self.unused = nn.Parameter(torch.zeros(3))


def weigh(meta: nn.Module, outputs: Tensor, data: Any) -> Tensor:
    losses = F.cross_entropy(outputs, data[1], reduction="none")
    return (meta.weight(losses.detach()[:, None], data[1]) * losses).mean()


def weigh_model(model: nn.Module, meta: nn.Module, data: Any) -> Tensor:
    return weigh(meta, logits(model, data), data)


def make_problem(
    optimizer: Any = torch.optim.AdamW, parallel: DataParallel | None = None
) -> WeightingProblem:
    torch.manual_seed(3)
    net = mlp().double()
    meta = Weight().double()
    made = optimizer(net.parameters(), lr=0.01)
    return WeightingProblem(net, made, meta, logits, weigh, meta_loss, parallel)


def general(problem: WeightingProblem) -> BilevelProblem:
    return BilevelProblem(
        problem.model, problem.optimizer, problem.meta, weigh_model, meta_loss, problem.parallel
    )


def batches(rank: int | None, count: int) -> list[tuple[Tensor, Tensor]]:
    """The same batches everywhere; a rank gets its part of the rows, None all of them."""
    generator_state = torch.get_rng_state()
    torch.manual_seed(11)
    found = [batch("mlp", 12 * SIZE) for _ in range(count)]
    torch.set_rng_state(generator_state)
    return [tuple(t if rank is None else t.chunk(SIZE)[rank] for t in b) for b in found]  # type: ignore[misc]


def base_step(problem: WeightingProblem, model: nn.Module, data: Any) -> None:
    problem.optimizer.zero_grad()
    weigh_model(model, problem.meta, data).backward()
    problem.optimizer.step()
    problem.meta.zero_grad()


def all_gradients(rank: int | None, exact: bool) -> dict[str, list[Tensor]]:
    parallel = None if rank is None else DataParallel(exact=exact)
    problem = make_problem(parallel=parallel)
    model = problem.model if rank is None else DistributedDataParallel(problem.model)
    first, second, third, clean = batches(rank, 4)
    base_step(problem, model, first)
    base_step(problem, model, second)
    found = {
        name: meta_gradient(
            general(problem), [second, third] if name == "unrolled" else second, clean, **options
        )
        for name, options in GENERAL.items()
    }
    for name, options in WEIGHTING.items():
        found[name] = weighting_meta_gradient(problem, second, clean, **options)
    at = direction(problem, clean)
    outputs, grads = outputs_and_meta_gradient(problem, second, at, derivative="forward")
    found["alongside"] = average(grads, parallel).wait()
    at = direction(problem, clean)
    problem.optimizer.zero_grad()
    with riding(problem, at) as rider:
        outputs = model(second[0])
    weigh(problem.meta, outputs, second).backward()
    found["riding"] = average(rider.meta_gradient(second, outputs), parallel).wait()
    return found


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[Tensor]]]:
    return run_replicas(all_gradients, tmp_path_factory.mktemp("exact"), True)


@pytest.fixture(scope="module")
def alone() -> dict[str, list[Tensor]]:
    return all_gradients(None, False)


@pytest.mark.parametrize("name", [*GENERAL, *WEIGHTING, "alongside", "riding"])
def test_with_v_averaged_replicas_get_the_joined_batch_s_gradient(
    exact: list[dict[str, list[Tensor]]], alone: dict[str, list[Tensor]], name: str
) -> None:
    for replica in exact:
        assert relative_error(replica[name], alone[name]) < TOLERANCE.get(name, 1e-9)
    for a, b in zip(exact[0][name], exact[1][name], strict=True):
        assert torch.equal(a, b)


def local_gradient(rank: int) -> dict[str, list[Tensor]]:
    problem = make_problem(parallel=DataParallel())
    model = DistributedDataParallel(problem.model)
    data, clean = batches(rank, 2)
    base_step(problem, model, data)
    mean = meta_gradient(general(problem), data, clean)
    problem.parallel = None
    return {"mean": mean, "own": meta_gradient(general(problem), data, clean)}


def test_the_local_version_is_the_mean_of_what_each_replica_finds_alone(tmp_path: Path) -> None:
    replicas = run_replicas(local_gradient, tmp_path)
    expected = [sum(parts) / SIZE for parts in zip(*(r["own"] for r in replicas), strict=True)]
    for replica in replicas:
        assert relative_error(replica["mean"], expected) < 1e-12


def train_for_long(rank: int, exact: bool) -> list[Tensor]:
    torch.manual_seed(3)
    net, meta = mlp(dropout=0.1), Weight()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, fused=True)
    parallel = DataParallel(exact=exact)
    problem = WeightingProblem(net, optimizer, meta, logits, weigh, meta_loss, parallel)
    meta_optimizer = torch.optim.AdamW(meta.parameters(), lr=0.01)
    model = DistributedDataParallel(net)
    torch.manual_seed(rank)  # other data and other dropout masks
    for _ in range(50):
        data, clean = (batch("mlp", dtype=torch.float32) for _ in range(2))
        base_step(problem, model, data)
        grads = weighting_meta_gradient(problem, data, clean, nudge=1e-3)
        for p, g in zip(meta.parameters(), grads, strict=True):
            p.grad = g
        meta_optimizer.step()
    return [p.detach() for p in (*net.parameters(), *meta.parameters())]


@pytest.mark.parametrize("exact", [False, True])
def test_replicas_are_bit_identical_after_50_steps(tmp_path: Path, exact: bool) -> None:
    first, second = run_replicas(train_for_long, tmp_path, exact)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def shard(model: nn.Module) -> None:
    for layer in model:  # type: ignore[attr-defined]
        if isinstance(layer, nn.Linear) and layer is not model[-1]:  # type: ignore[index]
            fully_shard(layer)
    fully_shard(model)  # the last layer is the root's own, and stays gathered after a forward pass


def sharded_gradients(rank: int | None, optimizer: Any) -> dict[str, Any]:
    parallel = None if rank is None else DataParallel()
    problem = make_problem(parallel=parallel)
    if rank is not None:
        shard(problem.model)
        problem.optimizer = optimizer(problem.model.parameters(), lr=0.01)
    else:
        problem.optimizer = optimizer(problem.model.parameters(), lr=0.01)
    first, second, clean = batches(rank, 3)
    for data in (first, second):
        base_step(problem, problem.model, data)
    params = problem.optimizer.param_groups[0]["params"]  # the model's own may be gathered ones
    before = [(whole(p), whole(p.grad)) for p in params]
    found: dict[str, Any] = {
        "general": meta_gradient(general(problem), second, clean, derivative="central"),
        "forward": meta_gradient(general(problem), second, clean),
        "sama-na": meta_gradient(general(problem), second, clean, method="sama-na"),
        "weighting": weighting_meta_gradient(problem, second, clean),
    }
    at = direction(problem, clean)
    _, grads = outputs_and_meta_gradient(problem, second, at, derivative="central")
    found["alongside"] = average(grads, parallel).wait()
    after = [(whole(p), whole(p.grad)) for p in params]
    found["untouched"] = all(
        torch.equal(x, y)
        for b, a in zip(before, after, strict=True)
        for x, y in zip(b, a, strict=True)
    )
    at = direction(problem, clean)
    found["slope"] = float(at.slope)
    found["v"] = [whole(x) for x in at.v]
    weighting_meta_gradient(problem, second, clean, nudge=0.01)
    found["nudged"] = [whole(p) for p in params]
    return found


def whole(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    gather = getattr(tensor, "full_tensor", None)
    return (tensor if gather is None else gather()).detach().clone()


OPTIMIZERS = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "momentum": partial(torch.optim.SGD, momentum=0.9),
}


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_sharded_parameters_give_the_joined_batch_s_gradient(tmp_path: Path, name: str) -> None:
    optimizer = OPTIMIZERS[name]
    alone = sharded_gradients(None, optimizer)
    for replica in run_replicas(sharded_gradients, tmp_path, optimizer):
        assert replica["untouched"]
        assert replica["slope"] == pytest.approx(alone["slope"], rel=1e-9)
        for key in ("v", "nudged"):
            assert relative_error(replica[key], alone[key]) < 1e-6, key
        for key in ("general", "forward", "sama-na", "weighting", "alongside"):
            assert relative_error(replica[key], alone[key]) < 1e-6, key


def sharded_refusals(rank: int) -> list[str]:
    problem = make_problem(torch.optim.SGD, DataParallel())
    shard(problem.model)
    problem.optimizer = torch.optim.SGD(problem.model.parameters(), lr=0.01)
    (data,) = batches(rank, 1)
    base_step(problem, problem.model, data)
    said = []
    for method, base in (("cg", data), ("neumann", data), ("unrolled", [data])):
        try:
            meta_gradient(general(problem), base, data, method=method)
        except NotImplementedError as error:
            said.append(str(error))
    return said


def test_what_sharding_does_not_allow_is_said(tmp_path: Path) -> None:
    for said in run_replicas(sharded_refusals, tmp_path):
        assert len(said) == 3
        assert all("sharded" in message for message in said)


def average_in_small_buckets(rank: int) -> dict[str, Any]:
    distributed_module.BUCKET_BYTES = 64
    params = [nn.Parameter(torch.full((i + 1, 5), float(i))) for i in range(6)]
    params.insert(3, nn.Parameter(torch.ones(2, dtype=torch.float64)))
    started: list[int] = []
    reduce = dist.all_reduce

    def watched(tensor: Tensor, **options: Any) -> Any:
        started.append(tensor.numel())
        return reduce(tensor, **options)

    dist.all_reduce = watched
    mean = Average(params, DataParallel())
    loss = sum((p.double() ** 2).sum() for p in params[1:]) * (rank + 1)
    during: list[int] = []
    params[1].register_hook(lambda _: during.append(len(started)))
    with mean.collecting(params, lambda _, grad: -grad):
        torch.autograd.grad(loss, params, allow_unused=True)
    dist.all_reduce = reduce
    return {"means": mean.wait(), "during": during, "params": [p.detach() for p in params]}


def test_reductions_start_while_the_pass_is_running(tmp_path: Path) -> None:
    for replica in run_replicas(average_in_small_buckets, tmp_path):
        params, means = replica["params"], replica["means"]
        assert replica["during"][0] >= 3, "no reduction had begun before the pass was over"
        assert torch.equal(means[0], torch.zeros_like(params[0]))
        for p, mean in zip(params[1:], means[1:], strict=True):
            assert torch.allclose(mean, -3 * p)
            assert mean.dtype == p.dtype


def test_without_replicas_an_average_is_the_thing_itself() -> None:
    tensors = [torch.ones(3), torch.zeros(2, 2)]
    assert all(a is b for a, b in zip(average(tensors, None).wait(), tensors, strict=True))
