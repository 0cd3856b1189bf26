"""Text and image classifiers: loading, building from a config, and the small residual networks."""

from samacli.models.image_processor import image_processor
from samacli.models.load import (
    Shape,
    head_note,
    is_pretrained,
    load_model,
    load_processor,
    model_shape,
    parameter_count,
    save_model,
)
from samacli.models.small_resnet import (
    SMALL_RESNETS,
    SmallResNetConfig,
    SmallResNetForImageClassification,
)

__all__ = [
    "SMALL_RESNETS",
    "Shape",
    "SmallResNetConfig",
    "SmallResNetForImageClassification",
    "head_note",
    "image_processor",
    "is_pretrained",
    "load_model",
    "load_processor",
    "model_shape",
    "parameter_count",
    "save_model",
]
