"""Meta gradients on the device, in float32 and bf16, against float64 on the CPU.

The reference is double backward from the same θ, optimiser state, λ and batches.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samacli.meta import WeightingProblem, meta_gradient, riding, weighting_meta_gradient
from samacli.meta import direction as direction_of
from samacli.meta.adaptation import adapt
from tests.meta.problems import (
    CLASSES,
    batch,
    logits,
    meta_loss,
    model,
    train,
    weigh,
    weighting_problem,
)
from tests.meta.reference import (
    cosine,
    reference_adaptation,
    reference_meta_gradient,
    relative_error,
    snapshot,
)

KINDS = ("mlp", "bert", "conv")
# Of float32 arithmetic: differences lose the half of its digits that a step of θ·ε leaves.
TOLERANCE = {"forward": 1e-4, "contraction": 1e-4, "central": 2e-2, "one-sided": 5e-2}
OPTIMIZERS = {
    "sgd": functools.partial(torch.optim.SGD, lr=1e-2, momentum=0.9),
    "adamw": functools.partial(torch.optim.AdamW, lr=1e-2),
}


class Bert(nn.Module):
    """transformers' own, in small; its inputs are those of the kind "transformer"."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertForSequenceClassification

        config = BertConfig(
            vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=8, num_labels=CLASSES,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )  # fmt: skip
        self.net = BertForSequenceClassification(config)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.net(input_ids=tokens).logits
        return logits


def moved(problem: WeightingProblem, device: torch.device) -> WeightingProblem:
    """The same problem in float32 on the device: θ and its gradient, optimiser state, λ."""
    net = copy.deepcopy(problem.model).float().to(device)
    for ours, theirs in zip(net.parameters(), problem.model.parameters(), strict=True):
        assert theirs.grad is not None
        ours.grad = theirs.grad.detach().to(ours)
    optimizer = type(problem.optimizer)(net.parameters(), lr=1e-3)
    optimizer.load_state_dict(copy.deepcopy(problem.optimizer.state_dict()))
    meta = copy.deepcopy(problem.meta).float().to(device)
    return WeightingProblem(
        net, optimizer, meta, problem.outputs, problem.objective, problem.meta_loss
    )


def there(data: tuple[Tensor, Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    inputs, labels = data
    return (inputs.float() if inputs.is_floating_point() else inputs).to(device), labels.to(device)


def trained(kind: str, name: str, *, correct: bool = False) -> tuple[Any, Any, Any, list[Tensor]]:
    """A problem in float64 on the CPU with its batches and the exact meta gradient.

    Batch norms rest, since samples that are mixed have no contraction.
    """
    torch.manual_seed(0)
    net = (Bert() if kind == "bert" else model(kind)).double()
    data = "transformer" if kind == "bert" else kind
    problem = weighting_problem(net, OPTIMIZERS[name](net.parameters()), correct=correct)
    train(problem, data, 20)
    net.eval()
    before = snapshot(problem.optimizer)
    base = train(problem, data, 1)
    meta = batch(data)
    expected = reference_meta_gradient(
        problem, base, meta, lambda p, x: reference_adaptation(problem.optimizer, before, p, x)
    )
    return problem, base, meta, expected


def host(found: list[Tensor]) -> list[Tensor]:
    return [value.double().cpu() for value in found]


@pytest.mark.parametrize("derivative", TOLERANCE)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_derivative(kind: str, name: str, derivative: str, device: torch.device) -> None:
    problem, base, meta, expected = trained(kind, name)
    ours = moved(problem, device)
    found = weighting_meta_gradient(
        ours, there(base, device), there(meta, device), derivative=derivative
    )
    assert {g.device.type for g in found} == {device.type}
    assert relative_error(host(found), expected) < TOLERANCE[derivative]


@pytest.mark.parametrize("derivative", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_every_derivative_in_bf16(kind: str, derivative: str, device: torch.device) -> None:
    problem, base, meta, expected = trained(kind, "adamw")
    ours = moved(problem, device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = weighting_meta_gradient(
            ours, there(base, device), there(meta, device), derivative=derivative
        )
    assert all(g.dtype == torch.float32 for g in found)
    # half of the digits of bf16 are lost in a difference; those forms are for float32
    assert cosine(host(found), expected) > (0.98 if derivative[0] in "fc" else 0.8)


@pytest.mark.parametrize("compact", [False, True], ids=["exact", "compact"])
@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_riding_as_training_does(
    kind: str, bf16: bool, compact: bool, device: torch.device
) -> None:
    """The meta gradient from a base step's own backward pass; compact: v's matrices in bf16."""
    problem, base, meta, expected = trained(kind, "adamw")
    ours, data = moved(problem, device), there(base, device)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        at = direction_of(ours, there(meta, device))
        with riding(ours, at, compact=compact) as rider:
            outputs = logits(ours.model, data).float()
    ours.optimizer.zero_grad()
    weigh(ours.meta, outputs, data).backward()
    found = host(rider.meta_gradient(data, outputs))
    if bf16:
        assert cosine(found, expected) > 0.98
    else:
        assert relative_error(found, expected) < (5e-3 if compact else 1e-4)


@pytest.mark.parametrize("method", ["sama", "sama-na", "neumann", "cg", "unrolled"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_estimator(kind: str, method: str, device: torch.device) -> None:
    """The general form on the device says what it says in float64 on the CPU."""
    problem, base, meta, _ = trained(kind, "adamw", correct=True)
    ours = moved(problem, device)

    def take(of: WeightingProblem, base: Any, meta: Any) -> list[Tensor]:
        return meta_gradient(of, [base] if method == "unrolled" else base, meta, method)

    expected = take(problem, base, meta)
    found = take(ours, there(base, device), there(meta, device))
    assert relative_error(host(found), expected) < 2e-2
    assert cosine(host(found), expected) > 0.999


@pytest.mark.parametrize("method", ["sama", "cg", "unrolled"])
def test_no_trace_is_left(method: str, device: torch.device) -> None:
    """θ, its gradient, the state of the optimiser and both random states stay as they were."""
    torch.manual_seed(0)
    net = model("transformer", 0.2)
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), lr=1e-3))
    base, meta = train(problem, "transformer", 2, torch.float32), batch("transformer")
    ours, base, meta = moved(problem, device), there(base, device), there(meta, device)
    module = torch if device.type == "cpu" else torch.get_device_module(device)
    before = [p.detach().clone() for p in ours.model.parameters()]
    gradients = [p.grad.clone() for p in ours.model.parameters() if p.grad is not None]
    state, random = str(ours.optimizer.state_dict()), module.get_rng_state()
    meta_gradient(ours, [base] if method == "unrolled" else base, meta, method)
    assert all(torch.equal(p, t) for p, t in zip(ours.model.parameters(), before, strict=True))
    assert all(
        p.grad is not None and torch.equal(p.grad, g)
        for p, g in zip(ours.model.parameters(), gradients, strict=True)
    )
    assert str(ours.optimizer.state_dict()) == state
    assert torch.equal(module.get_rng_state(), random)
    assert torch.isfinite(meta_loss(ours.model, meta))


OPTIM = torch.optim


@pytest.mark.parametrize("switch", ["foreach", "fused", "plain", "capturable", "lr tensor"])
@pytest.mark.parametrize("make", [OPTIM.SGD, OPTIM.Adam, OPTIM.AdamW, OPTIM.NAdam, OPTIM.RAdam])
def test_the_product_with_the_slope_of_every_kind_of_step(
    make: Any, switch: str, device: torch.device
) -> None:
    """(∂u/∂g)ᵀ·x from state on the device, against autograd through the step in float64."""
    fused = (OPTIM.SGD, OPTIM.Adam, OPTIM.AdamW)
    if switch == "fused" and make not in fused:
        pytest.skip("torch has no fused step of it")
    if switch == "capturable" and (make is OPTIM.SGD or device.type != "cuda"):
        pytest.skip("torch captures no such step")
    if switch == "lr tensor" and make not in fused:
        pytest.skip("its rate is a number")
    torch.manual_seed(0)
    rate: Any = 0.03
    options: dict[str, Any] = {"foreach": switch == "foreach"}
    if make is OPTIM.SGD:
        options["momentum"] = 0.9
    if switch in ("fused", "capturable"):
        options[switch] = True
    if switch == "lr tensor":
        rate = torch.tensor(0.03, device=device)
        options["fused"] = True
    shapes = [(5, 4), (4,), (3, 2, 2), ()]
    theirs = [torch.nn.Parameter(torch.randn(s, dtype=torch.float64)) for s in shapes]
    ours = [torch.nn.Parameter(p.detach().float().to(device)) for p in theirs]
    if switch in ("fused", "lr tensor"):
        options.pop("foreach")
    plain = {k: v for k, v in options.items() if k == "momentum"}
    exact, taken = make(theirs, lr=0.03, **plain), make(ours, lr=rate, **options)
    before: Any = None
    for _ in range(3):
        before = snapshot(exact)
        for a, b in zip(theirs, ours, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.float().to(device)
        exact.step()
        taken.step()
    x = [torch.randn_like(p) for p in theirs]
    expected = reference_adaptation(exact, before, theirs, x)
    found = [w.float().to(device) for w in x]
    slope = adapt(taken, ours, found)
    assert relative_error(host(found), expected) < 1e-4
    dot = sum(float((a * b).sum()) for a, b in zip(x, expected, strict=True))
    assert float(slope) == pytest.approx(dot, rel=1e-3, abs=1e-4)
