"""What a model makes of an example before its classification head, or its head's last layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from samacli.errors import SamaError
from samacli.training.objective import Batch, model_inputs, model_logits


def pooled_embedding(model: nn.Module, batch: Batch, *, layer: int = -1) -> Tensor:
    """One vector an example, (n, features) float32, from a transformers classifier's backbone.

    Text: the mean over the attention mask of a layer's hidden states, by default the last's.
    Images: the backbone's pooled output where it has one (convolutional networks), else the mean
    over patches.

    Raises:
        SamaError: the backbone gives no hidden states.
    """
    inputs = model_inputs(batch)
    backbone = getattr(model, "base_model", model)
    output = None
    if backbone is not model:
        output = backbone(**inputs, output_hidden_states=layer != -1)
    hidden = getattr(output, "last_hidden_state", None)
    if output is not None and hidden is not None and layer != -1:
        # Where the lower layers were taken off, the lowest states there are may be above `layer`.
        states = output.hidden_states
        hidden = states[max(layer, -len(states))] if states else hidden
    if output is None or hidden is None:
        raise SamaError(
            f"the model {type(model).__name__} (model.name) has no backbone that gives hidden "
            "states, which linear-probe and linear-probe-noisy take; leave them out of --baselines"
        )
    hidden = hidden.float()
    if "pixel_values" in inputs:
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.float().flatten(1)
        return hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(-1)
    mask = inputs.get("attention_mask")
    if mask is None:
        return hidden.mean(1)
    weights = mask.to(hidden).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp_min(1)


def last_linear(model: nn.Module) -> nn.Linear:
    """The linear layer that gives the logits, of a transformers classifier or any like it.

    `classifier` of ResNet (behind a flattening), ViT and BERT, `classifier.out_proj` of RoBERTa:
    the last one registered, with one output a class where the model's config tells their number.

    Raises:
        SamaError: there is none.
    """
    classes = getattr(getattr(model, "config", None), "num_labels", None)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    fitting = [m for m in layers if classes is None or m.out_features == classes]
    if not fitting:
        raise SamaError(
            f"the model {type(model).__name__} (model.name) ends in no linear layer with one "
            "output a class, whose input the scores grand and prototypes take; leave them out"
        )
    return fitting[-1]


@contextlib.contextmanager
def listening_to(layer: nn.Linear) -> Iterator[list[Tensor]]:
    """What the layer is given, (n, f) detached, for each pass within.

    Raises:
        SamaError: it is not one vector an example, or the layer takes no part in the pass.
    """
    heard: list[Tensor] = []

    def hear(_: nn.Module, args: tuple[Any, ...]) -> None:
        if args[0].dim() != 2:
            raise SamaError(
                "the model (model.name) applies its last linear layer to every token or patch, not "
                "to one vector an example, which the scores grand and prototypes take; leave them "
                "out"
            )
        heard.append(args[0].detach())

    handle = layer.register_forward_pre_hook(hear)
    try:
        yield heard
    finally:
        handle.remove()
    if not heard:
        raise SamaError(
            "the last linear layer of the model (model.name), whose input the scores grand and "
            "prototypes take, takes no part in its forward pass; leave them out"
        )


def classifier_features(model: nn.Module, batch: Batch) -> Tensor:
    """What the last linear layer is given for a batch of n, (n, f) float32.

    Raises:
        SamaError: the model has no such layer, or it is not given one vector an example.
    """
    with listening_to(last_linear(model)) as heard:
        model_logits(model, batch)
    return heard[-1].float()
