"""Residual networks with the CIFAR stem (He et al. 2016, section 4.2), as a transformers model.

transformers' ResNet opens with a 7×7 convolution of stride 2 and a pooling, which leaves nothing of
a 32×32 image. Only that stem is replaced here: encoder, head, saving and loading are the library's.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)


class SmallResNetConfig(ResNetConfig):
    """`ResNetConfig` for images of 8 to 64 pixels; loadable once `samacli.models` is imported."""

    model_type = "samacli-small-resnet"


class _Stem(nn.Module):
    """3×3 convolution, batch norm, ReLU: (n, channels, h, w) → (n, embedding_size, h, w)."""

    def __init__(self, config: SmallResNetConfig) -> None:
        super().__init__()
        self.num_channels = config.num_channels
        self.convolution = nn.Conv2d(
            config.num_channels, config.embedding_size, 3, padding=1, bias=False
        )
        self.normalization = nn.BatchNorm2d(config.embedding_size)
        self.activation = nn.ReLU()

    def forward(self, pixel_values: Tensor, *_: Any, **__: Any) -> Tensor:
        return self.activation(self.normalization(self.convolution(pixel_values)))


class SmallResNetForImageClassification(ResNetForImageClassification):
    """`ResNetForImageClassification` with the CIFAR stem."""

    config_class = SmallResNetConfig

    def __init__(self, config: SmallResNetConfig) -> None:
        super().__init__(config)
        self.resnet.embedder = _Stem(config)  # type: ignore[assignment]
        self.post_init()


AutoConfig.register(SmallResNetConfig.model_type, SmallResNetConfig, exist_ok=True)
AutoModelForImageClassification.register(
    SmallResNetConfig, SmallResNetForImageClassification, exist_ok=True
)

# Depth counts as in the paper: 2 convolutions a basic layer, the stem and the classifier.
SMALL_RESNETS: dict[str, dict[str, Any]] = {
    "resnet8-small": {"embedding_size": 32, "hidden_sizes": [32, 64, 128], "depths": [1, 1, 1]},
    "resnet14-small": {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [2, 2, 2]},
    "resnet32-small": {"embedding_size": 16, "hidden_sizes": [16, 32, 64], "depths": [5, 5, 5]},
    "resnet18-cifar": {
        "embedding_size": 64,
        "hidden_sizes": [64, 128, 256, 512],
        "depths": [2, 2, 2, 2],
    },
}


def small_resnet_config(name: str, num_channels: int, **values: Any) -> SmallResNetConfig:
    """The config of a built-in network; `values` replace its own (widths, depths, labels)."""
    return SmallResNetConfig(
        num_channels=num_channels, layer_type="basic", **{**SMALL_RESNETS[name], **values}
    )
