"""The modules that hold λ."""

from __future__ import annotations

import pytest
import torch

from samacli.meta import MetaWeightNet
from samacli.meta.weight_net import normalized


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("classes", [None, 5])
def test_starts_near_uniform_with_gradients_alive(classes: int | None, layers: int) -> None:
    torch.manual_seed(0)
    net = MetaWeightNet(3, classes, layers=layers)
    features = torch.randn(64, 3)
    label = None if classes is None else torch.randint(0, classes, (64,))
    weights = net(features, label)
    assert weights.shape == (64,)
    assert weights.min() > 0.7
    assert weights.max() < 1.3
    assert weights.mean().item() == pytest.approx(1.0)
    (weights * torch.randn(64)).sum().backward()
    # the bias of the last layer moves all weights alike, which the normalisation takes out
    for name, p in net.named_parameters():
        assert p.grad is not None
        assert name == "outward.bias" or p.grad.abs().max() > 1e-5, name


def test_unnormalised_weights_start_at_one() -> None:
    torch.manual_seed(0)
    weights = MetaWeightNet(2, normalize=False)(torch.randn(32, 2))
    assert weights.mean().item() == pytest.approx(1.0, abs=0.2)


def test_all_zero_weights_stay_finite() -> None:
    weights = torch.zeros(4, requires_grad=True)
    result = normalized(weights)
    result.sum().backward()
    assert not result.any()
    assert weights.grad.isfinite().all()


def test_learns_to_tell_labels_apart() -> None:
    """Per-sample directional derivatives that depend on the label are followed."""
    torch.manual_seed(0)
    net = MetaWeightNet(1, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    label = torch.arange(64) % 2
    for _ in range(100):
        optimizer.zero_grad()
        (net(torch.randn(64, 1), label) * (2.0 * label - 1)).mean().backward()
        optimizer.step()
    weights = net(torch.randn(64, 1), label)
    assert weights[label == 0].mean() > 1.8
    assert weights[label == 1].mean() < 0.2


def test_label_is_given_exactly_if_asked_for() -> None:
    with pytest.raises(ValueError, match="num_classes"):
        MetaWeightNet(1)(torch.zeros(2, 1), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="num_classes"):
        MetaWeightNet(1, 3)(torch.zeros(2, 1))
    with pytest.raises(ValueError, match="layers"):
        MetaWeightNet(1, layers=3)
