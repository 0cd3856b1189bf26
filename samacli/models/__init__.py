"""Text and image classifiers: loading, building from a config, and the small residual networks."""

from samacli.models.load import load_model, load_processor, parameter_count
from samacli.models.small_resnet import (
    SMALL_RESNETS,
    SmallResNetConfig,
    SmallResNetForImageClassification,
)

__all__ = [
    "SMALL_RESNETS",
    "SmallResNetConfig",
    "SmallResNetForImageClassification",
    "load_model",
    "load_processor",
    "parameter_count",
]
