"""Per-sample directional derivatives from one backward pass, layer by layer: exact.

A layer that is linear in its parameters, y = f(x; W), moves by f(x; V) when its parameters move
along V. With δ = ∂L/∂y, which the backward pass delivers anyway,
    ∂L/∂θ·v, the share of sample i  =  Σ_layers ⟨δ_i, f(x; V)_i⟩,
so one more application of each layer, to inputs that are there, replaces the forward passes of a
difference. It needs samples that don't see each other: sample i's outputs depend on its own
inputs alone (so no batch norm in training mode).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from samacli.meta.shards import any_sharded


class UnsupportedLayerError(ValueError):
    """A layer whose share can't be taken this way."""


class Contraction:
    """Collects each sample's share of ∂L/∂θ·v during a backward pass.

    per_sample: (n,), float32 or wider, after the backward pass; None before.
    """

    def __init__(self, model: nn.Module, params: Sequence[Tensor], v: Sequence[Tensor]) -> None:
        if any_sharded(params):
            raise UnsupportedLayerError("no rule for sharded parameters")
        self.per_sample: Tensor | None = None
        self._v = {id(p): x for p, x in zip(params, v, strict=True)}
        self._model = model
        self._samples = 0
        self._passed: set[nn.Module] = set()
        self._layers = [m for m in model.modules() if self._parts(m)]
        for layer in self._layers:
            _rule(layer)

    def round(self) -> None:
        """Hold the matrices of v in bfloat16 from here on, one after the other."""
        for key, x in self._v.items():
            self._v[key] = x.to(torch.bfloat16) if x.dim() > 1 else x

    def let_go(self) -> None:
        """Give v's memory up: the outputs, through their hooks, hold this object."""
        self._v.clear()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Forward passes begun inside are listened to, and so are their backward passes."""
        handles: list[Any] = [
            self._model.register_forward_pre_hook(self._count, with_kwargs=True),
            *(layer.register_forward_hook(self._pass) for layer in self._layers),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def check_complete(self) -> None:
        """Raise UnsupportedLayerError if parameters were used outside their own module's forward.

        Fused attention does so with the projections it holds.
        """
        for layer in self._layers:
            if layer not in self._passed:
                raise UnsupportedLayerError(f"{type(layer).__name__} was not called as a module")

    def _parts(self, module: nn.Module) -> dict[str, Tensor]:
        return {
            name: self._v[id(p)]
            for name, p in module._parameters.items()
            if p is not None and id(p) in self._v
        }

    def _count(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        if not tensors:
            raise UnsupportedLayerError("the model is not called with tensors")
        self._samples = tensors[0].shape[0]

    def _pass(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        self._passed.add(layer)
        if not torch.is_grad_enabled():
            return output
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        if output.shape[0] == 1 and self._samples > 1:
            # positions, say, are looked up once for all samples, whose shares would be lost
            output = output.expand(self._samples, *output.shape[1:])
        if output.shape[0] != self._samples:
            raise UnsupportedLayerError(f"{type(layer).__name__} mixes samples")
        held, version = [args[0]], args[0]._version

        def take_share(delta: Tensor) -> None:
            # let go at once: the hook itself lives as long as somebody keeps the outputs
            x = held.pop()
            if x._version != version:
                raise UnsupportedLayerError(f"the input of {type(layer).__name__} was overwritten")
            with torch.no_grad():
                self._add(layer, x.detach(), delta)

        output.register_hook(take_share)
        return output

    def _add(self, layer: nn.Module, x: Tensor, delta: Tensor) -> None:
        wide = torch.promote_types(delta.dtype, torch.float32)
        # matrix products in the precision of the pass, normalisation in full, as under autocast
        dtype = delta.dtype if isinstance(layer, MATRIX_LAYERS) else wide
        parts = {name: v.to(dtype) for name, v in self._parts(layer).items()}
        for name, p in layer._parameters.items():
            if p is not None and name not in parts:
                parts[name] = torch.zeros_like(p, dtype=dtype)
        x = x.to(dtype) if x.is_floating_point() else x
        moved = _rule(layer)(layer, x, parts.get("weight"), parts.get("bias"))
        # (positions, looked up once for all samples, have a row of their own)
        product = moved.mul_(delta) if moved.shape == delta.shape else moved * delta
        share = product.reshape(self._samples, -1).sum(1, dtype=wide)
        self.per_sample = share if self.per_sample is None else self.per_sample + share


MATRIX_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
Rule = Callable[[Any, Tensor, Any, Any], Tensor]


def _linear(layer: nn.Linear, x: Tensor, weight: Any, bias: Any) -> Tensor:
    return F.linear(x, weight, bias)


def _convolution(layer: Any, x: Tensor, weight: Any, bias: Any) -> Tensor:
    return layer._conv_forward(x, weight, bias)


def _embedding(layer: nn.Embedding, x: Tensor, weight: Any, bias: Any) -> Tensor:
    found = F.embedding(x, weight)
    if layer.padding_idx is None:
        return found
    return found.masked_fill((x == layer.padding_idx)[..., None], 0.0)  # it is not trained


def _layer_norm(layer: nn.LayerNorm, x: Tensor, weight: Any, bias: Any) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)


def _group_norm(layer: nn.GroupNorm, x: Tensor, weight: Any, bias: Any) -> Tensor:
    return F.group_norm(x, layer.num_groups, weight, bias, layer.eps)


def _batch_norm(layer: Any, x: Tensor, weight: Any, bias: Any) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, weight, bias, False, 0, layer.eps)


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.Embedding: _embedding,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.BatchNorm3d: _batch_norm,
}


def _rule(layer: nn.Module) -> Rule:
    """The rule for a layer's type. Raises UnsupportedLayerError where there is none."""
    name = type(layer).__name__
    kinds = (k for k in RULES if isinstance(layer, k) and type(layer).forward is k.forward)
    kind = next(kinds, None)
    if kind is None:
        raise UnsupportedLayerError(f"no rule for {name}")
    if isinstance(layer, nn.modules.batchnorm._BatchNorm) and (
        layer.training or layer.running_mean is None
    ):
        raise UnsupportedLayerError(f"{name} in training mode mixes samples")
    if isinstance(layer, nn.Embedding) and (layer.max_norm or layer.scale_grad_by_freq):
        raise UnsupportedLayerError(f"{name} with max_norm or scale_grad_by_freq")
    return RULES[kind]
