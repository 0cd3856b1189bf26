"""Models to measure with: BERTs by their geometry, random weights; or any by name or path."""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
)

from samacli.errors import SamaError, nearest
from samacli.models.load import load_model, model_location
from samacli.models.small_resnet import SMALL_RESNETS
from samacli.recipe import Model

POSITIONS = 512


def _geometry(layers: int, hidden: int, heads: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "vocab_size": 30522,
        "max_position_embeddings": POSITIONS,
    }


# arXiv 1810.04805 and 1908.08962; minilm is MiniLM-L6, arXiv 2002.10957.
GEOMETRIES: dict[str, dict[str, Any]] = {
    "bert-tiny": _geometry(2, 128, 2),
    "bert-mini": _geometry(4, 256, 4),
    "minilm": _geometry(6, 384, 12),
    "bert-base": _geometry(12, 768, 12),
    "bert-large": _geometry(24, 1024, 16),
}
# What workers load their libraries with, see `worker`.
REHEARSAL = "rehearsal"
_REHEARSAL = {**_geometry(1, 16, 2), "vocab_size": 64}


def check_model(name: str, sequence_length: int) -> None:
    """Refuse, before any work is done, a model that cannot be built or is too short.

    Raises:
        SamaError: no such model, one that reads no text, or fewer positions than
            `sequence_length`.
    """
    positions = POSITIONS if name in GEOMETRIES else _positions(name)
    if positions is not None and sequence_length > positions:
        raise SamaError(
            f"--sequence-length {sequence_length} is more than the {positions} positions of "
            f"'{name}'; give a shorter one"
        )


def _positions(name: str) -> int | None:
    if name in SMALL_RESNETS:
        raise SamaError(f"--model '{name}' reads images; the benchmark trains text models")
    try:
        config = AutoConfig.from_pretrained(model_location(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise SamaError(
            f"--model '{name}' is neither a model that can be reached on the hub or at that path "
            f"nor one of {', '.join(GEOMETRIES)}{nearest(name, GEOMETRIES)}"
        ) from error
    if getattr(config, "vocab_size", None) is None:
        raise SamaError(f"--model '{name}' has no vocabulary; the benchmark trains text models")
    return getattr(config, "max_position_embeddings", None)


def build_model(name: str, classes: int) -> PreTrainedModel:
    """A classifier in training mode on the CPU; random weights come from torch's random state.

    Raises:
        SamaError: it cannot be loaded.
    """
    geometry = _REHEARSAL if name == REHEARSAL else GEOMETRIES.get(name)
    if geometry is not None:
        config = BertConfig(**{**geometry, "num_labels": classes})
        model: PreTrainedModel = BertForSequenceClassification(config)
    else:
        labels = [str(i) for i in range(classes)]
        model = load_model(Model(name=name), "text-classification", labels)
    return model.train()
