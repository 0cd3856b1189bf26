"""Extra memory of a meta step: one buffer of the trainable parameters, and no graph besides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from samacli.meta import direction, weighting_meta_gradient
from samacli.meta.adaptation import adapt

from .problems import batch, weighting_problem


def peak(run: Callable[[], object]) -> int:
    """The most bytes of CPU memory that were allocated at once while running, beyond the start."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    sizes: list[tuple[int, int]] = []
    pending = list(profile.profiler.kineto_results.experimental_event_tree())
    while pending:
        event = pending.pop()
        pending += event.children
        if event.tag == torch._C._profiler._EventType.Allocation:
            sizes.append((event.start_time_ns, event.extra_fields.alloc_size))
    total = most = 0
    for _, size in sorted(sizes, key=lambda s: s[0]):
        total += size
        most = max(most, total)
    return most


def wide(width: int = 1024) -> nn.Module:
    """Parameters outweigh activations by far."""
    return nn.Sequential(
        nn.Linear(6, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
        nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 4),
    )  # fmt: skip


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("samacli.meta.adaptation.buckets.CPU_BLOCK", 1 << 14)
    torch.manual_seed(0)
    net = wide()
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), fused=True))
    data = batch("mlp", dtype=torch.float32)

    def step() -> None:
        problem.base_loss(net, problem.meta, data).backward()
        problem.optimizer.step()

    step()
    size = sum(p.numel() * p.element_size() for p in net.parameters())
    return problem, data, size, step


def test_measure_sees_what_is_allocated() -> None:
    assert peak(lambda: torch.empty(1000, 1000)) == pytest.approx(4e6, rel=0.01)
    assert peak(lambda: [torch.empty(1000, 1000).sum() for _ in range(5)]) < 4.1e6


@pytest.mark.parametrize("derivative", ["central", "one-sided"])
def test_one_buffer(trained, derivative: str) -> None:
    problem, data, size, _ = trained
    extra = peak(lambda: weighting_meta_gradient(problem, data, data, derivative=derivative))
    assert size < extra < 1.15 * size


def test_adaptation_in_place(trained) -> None:
    problem, _, size, _ = trained
    params = list(problem.model.parameters())
    vectors = [torch.randn_like(p) for p in params]
    assert peak(lambda: adapt(problem.optimizer, params, vectors)) < 0.1 * size


def test_no_buffer_where_the_gradients_are_given_up(
    trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samacli.meta.adaptation.product.PORTION_BYTES", 1 << 16)
    problem, data, size, step = trained

    def whole(release: bool) -> int:
        problem.optimizer.zero_grad()

        def run() -> None:
            step()  # in the measure, so that giving up its gradients counts
            direction(problem, data, release_gradients=release)

        return peak(run)

    assert whole(False) > 2 * size
    # the largest weight, half of this net, is turned into its factor with a copy or two of its own
    assert whole(True) < 1.85 * size


def test_no_graph_in_the_difference_passes() -> None:
    """Where activations outweigh parameters, a meta step's peak is its meta backward pass."""
    torch.manual_seed(0)
    net = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.Tanh()) for _ in range(24)])
    net = nn.Sequential(nn.Linear(6, 64), net, nn.Linear(64, 4))
    problem = weighting_problem(net, torch.optim.SGD(net.parameters(), lr=0.1))
    base, meta = batch("mlp", 4096, torch.float32), batch("mlp", 16, torch.float32)
    plain = peak(lambda: problem.base_loss(net, problem.meta, base).backward())
    problem.optimizer.step()
    assert peak(lambda: weighting_meta_gradient(problem, base, meta)) < 0.5 * plain
