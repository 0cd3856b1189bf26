"""(∂u/∂g)ᵀ·x for any optimiser, from a dry run of its own step with autograd looking on."""

from __future__ import annotations

import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from samacli.meta.functional import each_tensor, overwriting_allowed
from samacli.meta.perturb import dot, norm
from samacli.meta.shards import is_sharded

State = dict[str, Any]


def unwrap(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The torch optimiser inside a wrapper such as accelerate's."""
    inner = getattr(optimizer, "optimizer", None)
    return unwrap(inner) if isinstance(inner, torch.optim.Optimizer) else optimizer


def generic_product(
    optimizer: torch.optim.Optimizer, params: Sequence[Tensor], vectors: Sequence[Tensor]
) -> float:
    """x ← (∂u/∂g)ᵀ·x in place, u being the step the optimiser would take now with `p.grad`.

    What the optimiser remembered before its last step is gone, so the step is repeated from its
    present state; the running averages of the two differ by one update. The product is made
    by autograd through a dry run. Where the step hides from autograd, it is ∂u/∂g·x instead,
    by a central difference of two dry runs: the same where ∂u/∂g is symmetric, as it is for
    element-wise and for spectral updates (Muon).
    Where u does not change with g at all (sign updates: Lion, Rprop), x is left as it is, which
    makes the method SAMA without adaptation, and a warning says so.

    Sharded parameters (FSDP2) are no different, if the optimiser's step works on them: DTensors
    communicate what it computes over whole parameters, such as their norms.

    Extra memory: copies of the parameters, the gradients and the optimiser's state.
    Returns ⟨x, product⟩.
    """
    members = [
        p
        for group in optimizer.param_groups
        for p in group["params"]
        if p.grad is not None and p.requires_grad
    ]
    wanted = dict(zip(params, vectors, strict=True))
    x = [wanted[p] if p in wanted else torch.zeros_like(p) for p in members]
    try:
        product = _by_autograd(optimizer, members, x)
    except (OpaqueStepError, RuntimeError, TypeError, ValueError, AttributeError) as reason:
        warnings.warn(
            f"{type(optimizer).__name__} can't be differentiated ({reason}): its adaptation "
            "is taken from differences of dry runs",
            stacklevel=2,
        )
        product = _by_difference(optimizer, members, x)
    product = [_sharded_like(p, y) for p, y in zip(members, product, strict=True)]
    found = dict(zip(members, product, strict=True))
    if not _all_groups_move(optimizer, found, wanted):
        warnings.warn(
            f"the update of {type(optimizer).__name__} does not change with the size of the "
            "gradient (a sign update?): going on without adaptation, as sama-na",
            stacklevel=2,
        )
        for p, vector in wanted.items():
            if p not in found:
                vector.zero_()
        return norm(list(vectors)) ** 2
    slope = dot(x, product)
    for p, vector in wanted.items():
        if p in found:
            vector.copy_(found[p])
        else:
            vector.zero_()
    return slope


def _sharded_like(param: Tensor, tensor: Tensor) -> Tensor:
    """A sharded tensor distributed over processes as the parameter is."""
    if not is_sharded(param):
        return tensor
    return tensor.redistribute(param.device_mesh, param.placements)  # type: ignore[attr-defined]


def _states(optimizer: torch.optim.Optimizer, params: Sequence[Tensor]) -> list[dict[str, Any]]:
    return [optimizer.state.get(p, {}) for p in params]


def _by_autograd(
    optimizer: torch.optim.Optimizer, params: list[Tensor], x: list[Tensor]
) -> list[Tensor]:
    with torch.enable_grad():
        values = [p.detach() for p in params]
        grads = [p.grad.detach().clone().requires_grad_() for p in params if p.grad is not None]
        moved, _ = dry_run(optimizer, params, values, grads, _states(optimizer, params))
        # u = θ_before − θ_after
        outputs = [(m, -w) for m, w in zip(moved, x, strict=True) if m.requires_grad]
        if not outputs:
            return [torch.zeros_like(p) for p in params]
        found = torch.autograd.grad(
            [m for m, _ in outputs], grads, [w for _, w in outputs], allow_unused=True
        )
    return [torch.zeros_like(p) if g is None else g for p, g in zip(params, found, strict=True)]


def _by_difference(
    optimizer: torch.optim.Optimizer, params: list[Tensor], x: list[Tensor]
) -> list[Tensor]:
    values = [p.detach() for p in params]
    grads = [p.grad.detach() for p in params if p.grad is not None]
    states = _states(optimizer, params)
    length = norm(x)
    if length == 0:
        return [torch.zeros_like(p) for p in params]
    epsilon = torch.finfo(params[0].dtype).eps ** (1 / 3) * norm(grads) / length

    def moved(by: float) -> list[Tensor]:
        shifted = [g.add(w, alpha=by) for g, w in zip(grads, x, strict=True)]
        return dry_run(optimizer, params, values, shifted, states, differentiable=False)[0]

    with torch.no_grad():
        behind, ahead = moved(-epsilon), moved(epsilon)
        return [(b - a) / (2 * epsilon) for a, b in zip(ahead, behind, strict=True)]


def _all_groups_move(
    optimizer: torch.optim.Optimizer, found: dict[Tensor, Tensor], wanted: dict[Tensor, Tensor]
) -> bool:
    """Whether the product is other than 0 in every group where the vector is."""
    for group in optimizer.param_groups:
        members = [p for p in group["params"] if p in found and p in wanted]
        if norm([wanted[p] for p in members]) > 0 and norm([found[p] for p in members]) == 0:
            return False
    return True


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
