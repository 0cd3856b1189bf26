"""Estimators of the meta gradient, one function each, side by side.

estimator(problem, base_batch, meta_batch, **options) -> one tensor per `meta.parameters()`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_reduce
from torch.nn.attention import SDPBackend, sdpa_kernel

from samacli.meta.adaptation import Clip
from samacli.meta.adaptation.generic import dry_run, unwrap
from samacli.meta.derivatives import gradient, gradient_graph, mixed_product, vector_product
from samacli.meta.direction import direction
from samacli.meta.distributed import Average, DataParallel, average
from samacli.meta.functional import call_with
from samacli.meta.perturb import dot
from samacli.meta.perturb import nudge as nudge_parameters
from samacli.meta.preserve import preserved
from samacli.meta.problem import Problem
from samacli.meta.shards import any_sharded

Vector = list[Tensor]
Matvec = Callable[[Vector], Vector]


def meta_gradient(
    problem: Problem, base_batch: Any, meta_batch: Any, method: str = "sama", **options: Any
) -> list[Tensor]:
    """dL_meta/dλ by the estimator of this name; "sama" is −(∂²L_base/∂λ∂θ)·(∂u/∂g)ᵀ ∂L_meta/∂θ.

    Call after `optimizer.step()` while `p.grad` still holds that step's gradient. Returns one
    tensor for each of `meta.parameters()`, at the present θ, learning rates included. θ (unless
    nudged), the optimiser's state, `p.grad`, buffers and the random state come out exactly as
    they went in.

    method: "sama", "sama-na", "neumann", "cg", "unrolled" (`base_batch` is a list of batches then).
    options: the estimator's own, see its docstring: `derivative` and `nudge` for the first two;
        `clip` for "sama".

    Raises ValueError for an unknown method, RuntimeError if no step has been taken.
    """
    if method not in ESTIMATORS:
        raise ValueError(f"method must be one of {', '.join(ESTIMATORS)}, not {method!r}")
    return ESTIMATORS[method](problem, base_batch, meta_batch, **options)


def sama(
    problem: Problem,
    base_batch: Any,
    meta_batch: Any,
    *,
    derivative: str = "forward",
    nudge: float = 0.0,
    clip: Clip | None = None,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·v with v = (∂u/∂g)ᵀ ∂L_meta/∂θ.

    derivative: how the mixed derivative is taken, see `mixed_product`.
    nudge: if not 0, afterwards θ ← θ − nudge·v/‖v‖.
    clip: set where the step took clipped gradients, see `direction`.
    Source: "Making Scalable Meta Learning Practical", arXiv 2310.05674, equations 5 and 6.
    """
    return _along_direction(problem, base_batch, meta_batch, "sama", derivative, nudge, clip)


def sama_na(
    problem: Problem,
    base_batch: Any,
    meta_batch: Any,
    *,
    derivative: str = "forward",
    nudge: float = 0.0,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·∂L_meta/∂θ; options as for `sama`.

    Equivalent to T1−T2 (arXiv 1910.08854) and to second-order DARTS at the present θ (arXiv
    1806.09055), but for the learning rate.
    """
    return _along_direction(problem, base_batch, meta_batch, "sama-na", derivative, nudge)


def neumann(
    problem: Problem,
    base_batch: Any,
    meta_batch: Any,
    *,
    iterations: int = 5,
    alpha: float = 0.1,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·q,  q = α·Σ_{k=0}^{K} (I − αH)ᵏ ∂L_meta/∂θ → H⁻¹ ∂L_meta/∂θ.

    iterations: K, the number of Hessian-vector products; alpha: converges for 0 < α < 2/λ_max(H)
    where H is positive definite. Source: Lorraine et al., arXiv 1911.02590, algorithm 3.
    """

    def solve(hessian: Matvec, b: Vector) -> Vector:
        term, total = [x.clone() for x in b], [x.clone() for x in b]
        for _ in range(iterations):
            torch._foreach_sub_(term, hessian(term), alpha=alpha)
            torch._foreach_add_(total, term)
        torch._foreach_mul_(total, alpha)
        return total

    return _implicit_gradient(problem, base_batch, meta_batch, solve)


def cg(
    problem: Problem,
    base_batch: Any,
    meta_batch: Any,
    *,
    iterations: int = 5,
    damping: float = 0.0,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·q,  (H + damping·I)·q = ∂L_meta/∂θ by K steps of conjugate gradients.

    iterations: K, the number of Hessian-vector products. Stops at the solution so far where the
    curvature along the next direction is not positive (from the start: q = ∂L_meta/∂θ).
    Source: Pedregosa, arXiv 1602.02355; Rajeswaran et al., arXiv 1909.04630.
    """

    def solve(hessian: Matvec, b: Vector) -> Vector:
        q = [torch.zeros_like(x) for x in b]
        residual, towards = [x.clone() for x in b], [x.clone() for x in b]
        size = dot(residual, residual)
        for k in range(iterations):
            product = list(torch._foreach_add(hessian(towards), towards, alpha=damping))
            curvature = dot(towards, product)
            if size == 0 or curvature <= 0:
                return b if k == 0 else q
            rate = size / curvature
            torch._foreach_add_(q, towards, alpha=rate)
            torch._foreach_sub_(residual, product, alpha=rate)
            before, size = size, dot(residual, residual)
            torch._foreach_mul_(towards, size / before)
            torch._foreach_add_(towards, residual)
        return q

    return _implicit_gradient(problem, base_batch, meta_batch, solve)


def unrolled(problem: Problem, base_batch: list[Any], meta_batch: Any) -> list[Tensor]:
    """dL_meta(θ_K(λ))/dλ,  θ_{k+1} = θ_k − u(∂L_base/∂θ(θ_k, λ; batch_k)),  θ_0 = θ.

    base_batch: a list of K batches, one for each step of the real optimiser, taken on copies of θ
    and of its present state. Keeps the graph of all K steps. Unlike the other estimators, it
    looks ahead, and needs no gradient in `p.grad`. Of several replicas, all take the same steps,
    with the mean of their gradients, and the result is exactly that of the joined batches.

    Raises TypeError unless base_batch is a list, OpaqueStepError if the optimiser's step can't be
    differentiated, NotImplementedError for sharded parameters.
    """
    if not isinstance(base_batch, list):
        raise TypeError("unrolled takes a list of base batches, one for each step")
    optimizer, model = unwrap(problem.optimizer), problem.model
    theta = [p for g in optimizer.param_groups for p in g["params"] if p.requires_grad]
    if any_sharded(theta):
        raise NotImplementedError("unrolled steps of sharded parameters")
    values = [p.detach().requires_grad_() for p in theta]
    states: list[dict[str, Any]] = [optimizer.state.get(p, {}) for p in theta]
    with (
        preserved(model, problem.meta),
        torch.enable_grad(),
        sdpa_kernel(SDPBackend.MATH),  # the fused kernels have no second derivative
    ):
        for batch in base_batch:

            def base_loss(net: Any, batch: Any = batch) -> Tensor:
                return problem.base_loss(net, problem.meta, batch)

            loss = call_with(base_loss, model, theta, values)
            own = torch.autograd.grad(loss, values, create_graph=True, allow_unused=True)
            grads = _averaged(own, problem.parallel)
            used = [i for i, g in enumerate(grads) if g is not None]
            moved, left = dry_run(
                optimizer,
                [theta[i] for i in used],
                [values[i] for i in used],
                [g for g in grads if g is not None],
                [states[i] for i in used],
            )
            for i, value, state in zip(used, moved, left, strict=True):
                values[i], states[i] = value, state
        end = call_with(lambda net: problem.meta_loss(net, meta_batch), model, theta, values)
        return average(gradient(end, problem.meta), problem.parallel).wait()


ESTIMATORS: dict[str, Callable[..., list[Tensor]]] = {
    "sama": sama,
    "sama-na": sama_na,
    "neumann": neumann,
    "cg": cg,
    "unrolled": unrolled,
}


def _along_direction(
    problem: Problem,
    base_batch: Any,
    meta_batch: Any,
    method: str,
    derivative: str,
    nudge: float,
    clip: Clip | None = None,
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·v with the v of "sama" or "sama-na"."""
    with preserved(problem.model, problem.meta) as rewind:
        at = direction(problem, meta_batch, method, clip=clip)
        product = mixed_product(problem, base_batch, at, rewind, derivative, keep=nudge != 0)
        nudge_parameters(at.params, at.v, nudge, problem.parallel)
        return [-p for p in product]


def _implicit_gradient(
    problem: Problem, base_batch: Any, meta_batch: Any, solve: Callable[[Matvec, Vector], Vector]
) -> list[Tensor]:
    """−(∂²L_base/∂λ∂θ)·q with q = solve(H, ∂L_meta/∂θ) ≈ H⁻¹ ∂L_meta/∂θ, H = ∂²L_base/∂θ².

    H is known by its products with vectors alone. They and the mixed derivative are taken by
    double backward, through one graph of ∂L_base/∂θ that is kept for all of them. Of several
    replicas each solves for its own batches, and all get the mean; with `parallel.exact`, b and
    each product are averaged, and the system solved is that of the joined batch.

    Raises NotImplementedError for sharded parameters.
    """
    theta = [p for g in problem.optimizer.param_groups for p in g["params"] if p.requires_grad]
    if any_sharded(theta):
        raise NotImplementedError("double backward through sharded parameters")
    exact = problem.parallel if problem.parallel is not None and problem.parallel.exact else None
    with preserved(problem.model, problem.meta) as rewind, torch.enable_grad():
        torch.clear_autocast_cache()
        loss = problem.meta_loss(problem.model, meta_batch)
        grads = torch.autograd.grad(loss, theta, allow_unused=True)
        b = [torch.zeros_like(p) if g is None else g for p, g in zip(theta, grads, strict=True)]
        b = average(b, exact).wait()
        rewind()
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            base_loss = problem.base_loss(problem.model, problem.meta, base_batch)
            graph = gradient_graph(base_loss, theta)

        def hessian(x: Vector) -> Vector:
            return average(vector_product(graph, theta, x, keep=True), exact).wait()

        q = solve(hessian, b)
        active = [p for p in problem.meta.parameters() if p.requires_grad]
        mean = Average(active, problem.parallel)
        with mean.collecting(active, lambda _, grad: grad):
            vector_product(graph, active, q)
        found = dict(zip(active, mean.wait(), strict=True))
    return [-found[p] if p in found else torch.zeros_like(p) for p in problem.meta.parameters()]


def _averaged(
    grads: tuple[Tensor | None, ...], parallel: DataParallel | None
) -> tuple[Tensor | None, ...]:
    """Means over the replicas, through which differentiation goes on, on all of them."""
    there = [g for g in grads if g is not None]
    if parallel is None or parallel.size == 1 or not there:
        return grads
    flat = torch.cat([g.reshape(-1) for g in there]) / parallel.size
    group = torch.distributed.group.WORLD if parallel.group is None else parallel.group
    pieces = iter(all_reduce(flat, group=group).split([g.numel() for g in there]))
    return tuple(None if g is None else next(pieces).view_as(g) for g in grads)
