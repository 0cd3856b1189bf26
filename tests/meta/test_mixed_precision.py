"""bf16 autocast with float32 parameters."""

from __future__ import annotations

import pytest
import torch

from samacli.meta import meta_gradient, weighting_meta_gradient
from samacli.meta.weighting import mixed_derivative

from .problems import batch, model, train, weighting_problem
from .reference import cosine, relative_error


@pytest.mark.parametrize("derivative", ["central", "one-sided", "forward", "contraction"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_close_to_float32(kind: str, optimizer: str, derivative: str) -> None:
    torch.manual_seed(0)
    net = model(kind)
    make = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    problem = weighting_problem(net, make(net.parameters(), lr=1e-2), correct=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        base = train(problem, kind, 20, torch.float32)
    net.eval()
    meta = batch(kind, dtype=torch.float32)
    expected = weighting_meta_gradient(problem, base, meta, derivative="forward")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = weighting_meta_gradient(problem, base, meta, derivative=derivative)
    assert all(g.dtype == torch.float32 for g in found)
    # half of the digits of bf16 are lost in a one-sided difference; that form is for float32
    assert cosine(found, expected) > (0.9 if derivative == "one-sided" else 0.99)


def test_general_form() -> None:
    torch.manual_seed(0)
    net = model("mlp")
    problem = weighting_problem(net, torch.optim.AdamW(net.parameters(), lr=1e-2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        base = train(problem, "mlp", 10, torch.float32)
        meta = batch("mlp", dtype=torch.float32)
        found = meta_gradient(problem, base, meta)
    assert cosine(found, meta_gradient(problem, base, meta)) > 0.99


def test_no_copies_of_old_parameters_are_used() -> None:
    """Autocast keeps bf16 copies of parameters while it is on: they must not outlive a change."""
    torch.manual_seed(0)
    net = model("mlp")
    problem = weighting_problem(net, torch.optim.SGD(net.parameters(), lr=0.5))
    meta = batch("mlp", dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        base = train(problem, "mlp", 2, torch.float32)
        within = weighting_meta_gradient(problem, base, meta)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        afresh = weighting_meta_gradient(problem, base, meta)
    assert relative_error(within, afresh) == 0


@pytest.mark.parametrize("correct", [False, True])
def test_the_pass_through_lambda_is_in_full_precision(correct: bool) -> None:
    """Inside autocast as outside: the examples' terms nearly cancel, and rounding would be left."""
    torch.manual_seed(0)
    net = model("mlp")
    problem = weighting_problem(net, torch.optim.SGD(net.parameters(), lr=0.1), correct=correct)
    base = batch("mlp", dtype=torch.float32)
    outputs = problem.outputs(net, base).detach()
    tangent = torch.randn_like(outputs)
    expected = mixed_derivative(problem, base, outputs, tangent)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mixed_derivative(problem, base, outputs, tangent)
    assert relative_error(found, expected) == 0
