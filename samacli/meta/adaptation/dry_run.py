"""An optimiser's own step on copies, with autograd looking on."""

from __future__ import annotations

import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from samacli.meta.functional import each_tensor, overwriting_allowed

State = dict[str, Any]


class OpaqueStepError(RuntimeError):
    """The step leaves autograd's sight: it turns what depends on the gradient into numbers."""


def dry_run(
    optimizer: torch.optim.Optimizer,
    params: Sequence[Tensor],
    values: Sequence[Tensor],
    grads: Sequence[Tensor],
    states: Sequence[State],
    *,
    differentiable: bool = True,
) -> tuple[list[Tensor], list[State]]:
    """Where the optimiser's next step would take the values, and the states it would leave.

    params: which of the optimiser's parameters the values, gradients and states stand for; they
    tell the parameter groups, and are not touched, nor is the optimiser. All of one length.
    With `differentiable`, the results are functions of values, gradients and states for autograd,
    whatever the optimiser does to prevent that: `no_grad`, `.data`, `.detach()`, `.item()`,
    casts to half precision and writing over saved tensors are undone on the way.

    Raises OpaqueStepError where that is not possible.
    """
    copies = [value.clone() for value in values]
    double = _double(optimizer, params, copies, states, differentiable)
    step = type(optimizer).step
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*grad attribute of a Tensor.*")
        for copy, grad in zip(copies, grads, strict=True):
            copy.grad = grad.clone()
        if differentiable:
            with overwriting_allowed(), _Transparent():
                step(double)
        else:
            with torch.no_grad():
                step(double)
        for copy in copies:
            copy.grad = None
    return copies, [dict(double.state[copy]) for copy in copies]


def _double(
    optimizer: torch.optim.Optimizer,
    params: Sequence[Tensor],
    copies: Sequence[Tensor],
    states: Sequence[State],
    differentiable: bool,
) -> torch.optim.Optimizer:
    """An optimiser of the same class and settings that holds the copies."""
    double = object.__new__(type(optimizer))
    own = {"state", "param_groups", "defaults", "step"}  # schedulers replace `step` on instances
    for name, value in vars(optimizer).items():
        if name in own:
            continue
        hooks = name.startswith("_optimizer_")
        double.__dict__[name] = OrderedDict() if hooks else each_tensor(value, Tensor.clone)
    switches = {"foreach": False, "fused": False} if differentiable else {}
    stand_in = dict(zip(params, copies, strict=True))
    double.defaults = {k: switches.get(k, v) for k, v in optimizer.defaults.items()}
    double.param_groups = [
        {k: switches.get(k, v) for k, v in group.items()}
        | {"params": [stand_in[p] for p in group["params"] if p in stand_in]}
        for group in optimizer.param_groups
    ]
    double.state = defaultdict(dict)
    for copy, state in zip(copies, states, strict=True):
        if state:
            double.state[copy] = each_tensor(state, Tensor.clone)
    return double


class _Number(float):
    """A number read from a tensor, that remembers the tensor through arithmetic.

    Works in `alpha=` and `max(1.0, n)` as a float does, and becomes the tensor again where it
    meets tensors. (Functions of `math` see the float alone.)
    """

    tensor: Tensor

    def __new__(cls, tensor: Tensor) -> _Number:
        number = super().__new__(cls, torch.Tensor.item(tensor.detach()))
        number.tensor = tensor.reshape(())
        return number

    def __neg__(self) -> _Number:
        return _Number(-self.tensor)

    def __abs__(self) -> _Number:
        return _Number(self.tensor.abs())


def _operator(name: str) -> Callable[[_Number, Any], Any]:
    def apply(self: _Number, other: Any) -> Any:
        if isinstance(other, Tensor):
            return NotImplemented
        other = other.tensor if isinstance(other, _Number) else other
        return _Number(getattr(self.tensor, name)(other))

    return apply


for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(_Number, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(_Number, f"__r{_name}__", _operator(f"__r{_name}__"))


class _Transparent(TorchFunctionMode):
    """Undoes what would hide an operation from autograd."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _SAME:
            return args[0]
        with torch.enable_grad():
            if func in _ROUNDING:
                return args[0].clone()
            if func == torch.Tensor.data.__set__:  # type: ignore[attr-defined]
                return args[0].copy_(args[1])
            if func in _TO_NUMBER and args[0].requires_grad:
                if func == torch.Tensor.item:
                    return _Number(args[0])
                raise OpaqueStepError("it makes a Python number of what the gradient changes")
            if func in _ROOTS:
                return _root(func, args[0])
            args = tuple(a.tensor if isinstance(a, _Number) else a for a in args)
            scale = kwargs.get("alpha", kwargs.get("value"))
            if isinstance(scale, _Number):
                return _scaled(func, args, kwargs, scale.tensor)
            kwargs = {k: v.tensor if isinstance(v, _Number) else v for k, v in kwargs.items()}
            out = kwargs.pop("out", None)  # which autograd does not take
            result = func(*args, **kwargs)
            return out.copy_(result) if isinstance(out, Tensor) else result


_SAME = {torch.Tensor.data.__get__, torch.Tensor.detach, torch.Tensor.detach_}  # type: ignore[attr-defined]
_ROUNDING = {torch.Tensor.bfloat16, torch.Tensor.half}
_TO_NUMBER = {
    torch.Tensor.item,
    torch.Tensor.__float__,
    torch.Tensor.__int__,
    torch.Tensor.tolist,
    torch.Tensor.numpy,
}
_ROOTS = {torch.sqrt, torch.Tensor.sqrt, torch.Tensor.sqrt_}


def _root(func: Callable[..., Any], x: Tensor) -> Tensor:
    """√x with derivative 0 at 0: elements that never had a gradient would else give 0·∞."""
    alive = x > 0
    root = torch.where(alive, x, 1.0).sqrt() * alive
    return x.copy_(root) if func == torch.Tensor.sqrt_ else root


def _scaled(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], scale: Tensor
) -> Any:
    """`a.add(b, alpha=s)` and its like for a scale that depends on the gradient."""
    rest = {k: v for k, v in kwargs.items() if k not in ("alpha", "value")}
    first, second, *more = args
    return func(first, second * scale, *more, **rest)
