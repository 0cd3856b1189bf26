"""The frozen lower layers of a text model: taken off, so that each text passes them only once."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

_TAKEN = "_samacli_taken_off"


class _Passed(nn.Module):
    """Stands where the embeddings were: what it is given has been through them already."""

    def forward(self, inputs_embeds: Tensor | None = None, **_: Any) -> Tensor | None:
        return inputs_embeds


def frozen_depth(model: PreTrainedModel) -> int:
    """How many encoder layers from below are frozen as a whole, the embeddings with them.

    0 where the embeddings learn, or for an architecture that is not a stack of layers as BERT's and
    RoBERTa's (`base_model.embeddings`, `base_model.encoder.layer`).
    """
    base = model.base_model
    layers = getattr(getattr(base, "encoder", None), "layer", None)
    embeddings = getattr(base, "embeddings", None)
    if not isinstance(layers, nn.ModuleList) or not isinstance(embeddings, nn.Module):
        return 0
    if any(p.requires_grad for p in embeddings.parameters()):
        return 0
    for depth, layer in enumerate(layers):
        if any(p.requires_grad for p in layer.parameters()):
            return depth
    return len(layers)


def take_off(model: PreTrainedModel, depth: int) -> PreTrainedModel:
    """Take the embeddings and the lowest `depth` layers off, in place.

    The model then takes as `inputs_embeds` (n, tokens, width) what the last of them gave.
    """
    base: Any = model.base_model
    # Past nn.Module's own bookkeeping: these are no parameters of the model while they are off.
    object.__setattr__(model, _TAKEN, (base.embeddings, base.encoder.layer))
    base.embeddings = _Passed()
    base.encoder.layer = nn.ModuleList(list(base.encoder.layer)[depth:])
    return model


def keep_lower(model: PreTrainedModel, depth: int) -> None:
    """Leave only the lowest `depth` layers of the encoder, in place and for good."""
    base: Any = model.base_model
    base.encoder.layer = nn.ModuleList(list(base.encoder.layer)[:depth])


def put_back(model: PreTrainedModel) -> PreTrainedModel:
    """Undo `take_off`, in place; a whole model is left as it is."""
    taken = model.__dict__.pop(_TAKEN, None)
    if taken is not None:
        base: Any = model.base_model
        base.embeddings, base.encoder.layer = taken
    return model
