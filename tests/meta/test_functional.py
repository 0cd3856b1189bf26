"""The helpers that torch's function transforms lack."""

from __future__ import annotations

from collections import OrderedDict, defaultdict, namedtuple
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samacli.meta import BilevelProblem, MetaWeightNet, meta_gradient
from samacli.meta.functional import each_tensor

from .problems import batch, meta_loss, mlp, train
from .reference import reference_meta_gradient, relative_error

Pair = namedtuple("Pair", "left right")


def test_every_tensor_and_nothing_else() -> None:
    one = torch.ones(2)
    value: dict[str, Any] = {
        "list": [one, 3, (one, "text")],
        "pair": Pair(one, None),
        "ordered": OrderedDict(a=one),
        "default": defaultdict(list, {0: one}),
        "size": torch.Size([2, 3]),
    }
    changed = each_tensor(value, Tensor.neg)
    assert [type(changed[name]) for name in value] == [type(value[name]) for name in value]
    found = [*changed["list"][:1], changed["list"][2][0], changed["pair"].left]
    found += [changed["ordered"]["a"], changed["default"][0]]
    assert all(torch.equal(t, -one) for t in found)
    assert changed["list"][1] == 3
    assert changed["list"][2][1] == "text"
    assert changed["size"] == (2, 3)
    assert changed["default"]["new"] == []
    assert "new" not in value["default"]
    assert value["list"][0] is one


@pytest.mark.parametrize("derivative", ["central", "forward"])
def test_results_of_several_tensors_are_held_constant(derivative: str) -> None:
    """What `max` and its like return under no_grad is a class of torch's own."""

    def base_loss(net: nn.Module, meta: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        with torch.no_grad():
            surest = net(data[0]).max(-1).values
        losses = F.cross_entropy(net(data[0]), data[1], reduction="none")
        return (meta(torch.stack([losses.detach(), surest], dim=-1)) * losses).mean()

    torch.manual_seed(0)
    net, weights = mlp().double(), MetaWeightNet(2, hidden=8).double()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    problem = BilevelProblem(net, optimizer, weights, base_loss, meta_loss)
    base, meta = train(problem, "mlp", 3), batch("mlp")
    found = meta_gradient(problem, base, meta, "sama-na", derivative=derivative)
    expected = reference_meta_gradient(problem, base, meta, None)
    assert relative_error(found, expected) < 1e-6
