"""What a model makes of an example before its classification head."""

from __future__ import annotations

from torch import Tensor, nn

from samacli.errors import SamaError
from samacli.training.objective import Batch, model_inputs


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
        hidden = output.hidden_states[layer]
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
