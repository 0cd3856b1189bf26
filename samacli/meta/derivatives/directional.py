"""Derivatives along a direction v, three ways: differences, forward mode, double backward.

Differences take first-order passes alone; the other two are exact, forward mode in one dual pass,
double backward with a graph of the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from samacli.meta.direction import Direction
from samacli.meta.functional import call_with
from samacli.meta.perturb import Perturbation, norm
from samacli.meta.shards import sharded_precision

Evaluate = Callable[[], list[Tensor]]
# A context for the last of the passes, told how its i-th value becomes the i-th result.
LastPass = Callable[[Callable[[int, Tensor], Tensor]], AbstractContextManager[None]]

# Bounds on ε‖v‖/‖θ‖, where the rule below has nothing to go by: below the first, θ + ε·v is
# mostly rounding; above the second, the difference is no derivative any more.
SMALLEST, LARGEST = 2e-7, 1e-2


def _unwatched(result: Callable[[int, Tensor], Tensor]) -> AbstractContextManager[None]:
    return nullcontext()


def central(
    evaluate: Evaluate, at: Direction, *, keep: bool = False, last_pass: LastPass = _unwatched
) -> tuple[list[Tensor], list[Tensor]]:
    """f(θ) and ∂f/∂θ·v ≈ [f(θ+εv) − f(θ−εv)] / 2ε, from two evaluations.

    evaluate() -> f at the model's present parameters. f(θ) is the mean of both sides, which is
    off by O(ε²), the order of the difference itself. Uses up `at.v`, whose memory is let go; with
    `keep` it holds v again afterwards, up to the rounding of θ.
    last_pass: a context for the second evaluation, see `LastPass`.
    """
    epsilon = step_size(at)
    if epsilon == 0:
        here = _wide(evaluate())
        return here, [torch.zeros_like(f) for f in here]
    line = Perturbation(at.model, at.params, at.v, epsilon)
    with line.applied():
        ahead = _wide(evaluate())

    def difference(i: int, value: Tensor) -> Tensor:
        return (ahead[i] - value) / (2 * epsilon)

    line.move_to(-epsilon)
    with line.applied(), last_pass(difference):
        behind = _wide(evaluate())
    _finish(line, at, keep)
    middle = [(a + b) / 2 for a, b in zip(ahead, behind, strict=True)]
    return middle, [difference(i, value) for i, value in enumerate(behind)]


def one_sided(
    evaluate: Evaluate, at: Direction, *, keep: bool = False
) -> tuple[list[Tensor], list[Tensor]]:
    """f(θ) and ∂f/∂θ·v ≈ [f(θ+εv) − f(θ)] / ε, from two evaluations, that at θ first.

    Uses up `at.v` as `central` does.
    """
    start = evaluate()
    moved, epsilon = ahead(evaluate, at, keep=keep)
    return start, slope_towards(moved, epsilon, start)


def ahead(evaluate: Evaluate, at: Direction, *, keep: bool = False) -> tuple[list[Tensor], float]:
    """f(θ+εv), from one evaluation, and the ε of a one-sided difference. Uses up `at.v`."""
    epsilon = step_size(at, power=1 / 2)
    if epsilon == 0:
        return evaluate(), 0.0
    line = Perturbation(at.model, at.params, at.v, epsilon)
    with line.applied():
        moved = evaluate()
    _finish(line, at, keep)
    return moved, epsilon


def slope_towards(moved: list[Tensor], epsilon: float, start: list[Tensor]) -> list[Tensor]:
    """[f(θ+εv) − f(θ)] / ε."""
    if epsilon == 0:
        return [torch.zeros_like(f) for f in _wide(start)]
    return [(m - f.detach()) / epsilon for m, f in zip(_wide(moved), _wide(start), strict=True)]


def _finish(line: Perturbation, at: Direction, keep: bool) -> None:
    """Give v back, or its memory."""
    if keep:
        line.recover()
    else:
        at.v = []


def _wide(values: list[Tensor]) -> list[Tensor]:
    """At least float32: a difference of half-precision numbers must not be rounded once more."""
    return [f.float() if f.dtype in (torch.bfloat16, torch.float16) else f for f in values]


def step_size(at: Direction, power: float = 1 / 3) -> float:
    """ε for the points θ ± ε·v.

    The step is measured by what it does, not by its length: ε·⟨∂L_meta/∂θ, v⟩ = τ·|L_meta|, a
    relative change τ of the meta loss. The same ‖εv‖ changes the outputs by amounts four orders
    of magnitude apart between optimisers and stages of training (adapted vectors point where
    gradients have been small), while this rule lands within a factor 3.
    τ = 0.2·u^(1/3) for a central difference and 0.6·u^(1/2) for a one-sided one (`power`), the
    usual balance of truncation and rounding, with u the rounding unit of the precision the
    passes run in (autocast's where it is on). Factors measured on MiniLM.
    """
    length = norm(at.v)
    if length == 0:
        return 0.0
    unit = norm(at.params) / length or 1.0 / length
    factor = 0.2 if power < 0.4 else 0.6
    slope = abs(float(at.slope))
    target = factor * torch.finfo(_precision(at)).eps ** power * abs(float(at.loss))
    ratio = target / slope / unit if slope != 0 else LARGEST
    return unit * min(max(ratio, SMALLEST), LARGEST)


def half_precision(at: Direction) -> bool:
    """Whether passes run in bf16 or fp16, where differences are mostly rounding."""
    return torch.finfo(_precision(at)).eps > 1e-5


def _precision(at: Direction) -> torch.dtype:
    """What the passes compute in: autocast's, or FSDP's mixed precision, or the parameters' own."""
    device = at.params[0].device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return sharded_precision(at.model) or at.params[0].dtype


def pushforward(
    function: Callable[[nn.Module], Tensor],
    model: nn.Module,
    params: Sequence[Tensor],
    v: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """f(θ) and ∂f/∂θ·v from one pass with dual numbers θ + v·ϵ, ϵ² = 0.

    function(model) -> tensor of any shape. Returns two tensors of that shape; the tangent is
    differentiable with respect to anything else the function depends on (λ), if grad mode is on.
    Attention runs in its plain form, since the fused kernels have no forward derivative. Where an
    operation can't mix precisions in this mode (batch norm), the pass runs without autocast.

    Raises ValueError if a parameter is not the model's, NotImplementedError (from torch) if an
    operation has no forward derivative.
    """
    device = params[0].device.type
    try:
        return _pushforward(function, model, params, v)
    except (NotImplementedError, torch.OutOfMemoryError):
        raise
    except RuntimeError:
        if not torch.is_autocast_enabled(device):
            raise
    with torch.autocast(device, enabled=False):
        return _pushforward(function, model, params, v)


def _pushforward(
    function: Callable[[nn.Module], Tensor],
    model: nn.Module,
    params: Sequence[Tensor],
    v: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    with forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH):
        duals = [forward_ad.make_dual(p.detach(), x) for p, x in zip(params, v, strict=True)]
        value, tangent = forward_ad.unpack_dual(call_with(function, model, params, duals))
        return value, torch.zeros_like(value) if tangent is None else tangent


def gradient_graph(loss: Tensor, params: Sequence[Tensor]) -> list[Tensor]:
    """∂loss/∂θ with its own graph kept; zeros where the loss does not depend on a parameter."""
    grads = torch.autograd.grad(loss, list(params), create_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(params, grads, strict=True)]


def vector_product(
    grads: Sequence[Tensor], of: Sequence[Tensor], v: Sequence[Tensor], *, keep: bool = False
) -> list[Tensor]:
    """∂⟨grads, v⟩/∂of, for grads from `gradient_graph`.

    With of = θ that is the Hessian times v; with of = λ the mixed derivative times v.
    keep: the graph will be used again.
    """
    pairs = [(g, x) for g, x in zip(grads, v, strict=True) if g.requires_grad]
    if not pairs or not of:
        return [torch.zeros_like(p) for p in of]
    found = torch.autograd.grad(
        [g for g, _ in pairs], list(of), [x for _, x in pairs], retain_graph=keep, allow_unused=True
    )
    return [torch.zeros_like(p) if g is None else g for p, g in zip(of, found, strict=True)]
