"""Who takes part, and its steps: plain training, SAMA in its forms, second-order ones, Betty."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor

from samacli.errors import SamaError, nearest
from samacli.lab.bench.work import Work, meta_loss, weighted_objective
from samacli.meta import (
    Direction,
    average,
    direction,
    meta_gradient,
    outputs_and_meta_gradient,
    riding,
    weighting_meta_gradient,
)
from samacli.meta.derivatives.contraction import UnsupportedLayerError
from samacli.training.objective import Batch, weighted_cross_entropy

PLAIN = "plain"
SAMA = ("sama", "sama-na")
SECOND_ORDER = ("neumann", "cg", "unrolled")
BETTY = ("betty-sama", "betty-darts")
ESTIMATORS = (PLAIN, *SAMA, *SECOND_ORDER, *BETTY)

# riding: from the next base step's own backward pass (contraction, `samacli.meta.riding`).
# sharing: one more forward pass beside the next base step's (`outputs_and_meta_gradient`).
# apart: a meta step of its own (`weighting_meta_gradient`).
FORMS = ("riding", "sharing", "apart")
FORM_OF_TRAINING = "riding"  # with sample weights alone, no corrected labels


@dataclass(frozen=True)
class Contender:
    """An estimator, and for SAMA the form; None is the form that training uses."""

    estimator: str
    form: str | None = None

    @property
    def name(self) -> str:
        """As on the command line: `sama`, or `sama:riding`."""
        return self.estimator if self.form is None else f"{self.estimator}:{self.form}"


def contenders(names: Sequence[str] | None, world_sizes: Sequence[int]) -> list[Contender]:
    """Plain training first, then the others in the order given; None: all that can take part.

    Raises:
        SamaError: a name or a form that does not exist, or Betty where it is not installed, has
            no such estimator, or would run in several processes.
    """
    if names is None:
        betty = _betty_estimators() if set(world_sizes) == {1} else []
        names = (*SAMA, *SECOND_ORDER, *betty)
    return list(
        dict.fromkeys([Contender(PLAIN), *(_contender(name, world_sizes) for name in names)])
    )


def _contender(name: str, world_sizes: Sequence[int]) -> Contender:
    estimator, _, form = name.partition(":")
    if estimator not in ESTIMATORS:
        raise SamaError(
            f"--estimators: '{estimator}' is none of {', '.join(ESTIMATORS)}"
            f"{nearest(estimator, ESTIMATORS)}"
        )
    if form and estimator not in SAMA:
        raise SamaError(f"--estimators {name}: only {' and '.join(SAMA)} have forms")
    if form and form not in FORMS:
        raise SamaError(
            f"--estimators {name}: the form is none of {', '.join(FORMS)}{nearest(form, FORMS)}"
        )
    if estimator in BETTY:
        known = _betty_estimators()
        if estimator not in known:
            have = f"the one installed has {', '.join(known)}" if known else "none is installed"
            raise SamaError(
                f"--estimators {name} needs a Betty that has it, and {have}; "
                "install one beside samacli, or take the name out"
            )
        if set(world_sizes) != {1}:
            raise SamaError(f"--estimators {name} runs in one process only; give --nproc 1")
    return Contender(estimator, form or None)


def _betty_estimators() -> list[str]:
    """Those of `betty-sama` and `betty-darts` that the installed Betty can do."""
    try:
        if importlib.util.find_spec("betty.engine") is None:
            return []
        known = importlib.import_module("betty.hypergradient").jvp_fn_mapping
    except (ImportError, AttributeError):  # none, or another package of that name
        return []
    return [name for name in BETTY if name.removeprefix("betty-") in known]


def steps_of(contender: Contender, work: Work) -> Plain | Betty:
    """The training steps of a contender on this work; they go on where they stopped."""
    if contender.estimator == PLAIN:
        return Plain(work)
    if contender.estimator in SAMA:
        return Sama(work, contender.estimator, contender.form)
    if contender.estimator in BETTY:
        return Betty(work, contender.estimator.removeprefix("betty-"))
    return SecondOrder(work, contender.estimator)


class Plain:
    """No meta level: mean cross-entropy."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._count = 0

    def run(self, steps: int) -> None:
        """`steps` more base steps, with a meta step to every `unroll` of them."""
        for _ in range(steps):
            self._count += 1
            self.step(next(self.work.batches), meta_due=self._count % self.work.load.unroll == 0)

    def step(self, batch: Batch, *, meta_due: bool) -> None:
        """One base step, with what is due of a meta step."""
        work = self.work
        work.optimizer.zero_grad()
        weighted_cross_entropy(work.logits(batch), batch).backward()
        work.optimizer.step()


class Sama(Plain):
    """SAMA or SAMA-NA, by preference on the way to the next base step.

    form: see `FORMS`. Where a model's layers have no rule for the contraction and the form was not
    asked for, "riding" gives way to "sharing".
    """

    def __init__(self, work: Work, method: str, form: str | None) -> None:
        super().__init__(work)
        self.method = method
        self.form = form or FORM_OF_TRAINING
        self._may_change_form = form is None
        self._at: Direction | None = None

    def step(self, batch: Batch, *, meta_due: bool) -> None:
        work = self.work
        work.optimizer.zero_grad()
        at, self._at = self._at, None
        if at is None:
            logits = work.logits(batch)
            work.weighted_loss(logits, batch).backward()
        else:
            logits, gradients = self.passes(batch, at)
            work.meta_update(gradients)
        work.optimizer.step()
        if not meta_due:
            return
        meta_batch = next(work.meta_batches)
        if self.form != "apart":
            with work.autocast():
                self._at = direction(work.problem, meta_batch, self.method, release_gradients=True)
            return
        work.meta_update(self.apart(batch, meta_batch, logits, self.method))

    def passes(self, batch: Batch, at: Direction) -> tuple[Tensor, list[Tensor]]:
        """A base step's forward and backward pass, with the gradient of λ that they share."""
        if self.form == "riding":
            try:
                return self._ride(batch, at)
            except UnsupportedLayerError:
                if not self._may_change_form:
                    raise
                self.form = "sharing"
        work = self.work
        with work.autocast():
            logits, gradients = outputs_and_meta_gradient(
                work.problem, batch, at, base_pass=lambda: work.logits(batch)
            )
        under_way = average(gradients, work.replica.parallel)
        work.weighted_loss(logits, batch).backward()
        return logits, under_way.wait()

    def apart(self, batch: Batch, meta_batch: Batch, logits: Tensor, method: str) -> list[Tensor]:
        """The gradient of λ by passes of its own; logits: those of the base step."""
        with self.work.autocast():
            return weighting_meta_gradient(
                self.work.problem,
                batch,
                meta_batch,
                method=method,
                outputs_at_theta=logits.detach(),
            )

    def _ride(self, batch: Batch, at: Direction) -> tuple[Tensor, list[Tensor]]:
        work = self.work
        with work.autocast(), riding(work.problem, at, compact=True) as rider:
            logits = work.logits(batch)
        work.weighted_loss(logits, batch).backward()
        return logits, average(rider.meta_gradient(batch, logits), work.replica.parallel).wait()


class SecondOrder(Plain):
    """Neumann series, conjugate gradients, or straight through the next steps."""

    def __init__(self, work: Work, method: str) -> None:
        super().__init__(work)
        self.method = method

    def step(self, batch: Batch, *, meta_due: bool) -> None:
        work = self.work
        work.optimizer.zero_grad()
        work.weighted_loss(work.logits(batch), batch).backward()
        work.optimizer.step()
        if not meta_due:
            return
        # What the estimator looks at: the last batch, or (unrolled) those of the steps ahead.
        ahead = self.method == "unrolled"
        base: Any = list(islice(work.batches, work.load.unroll)) if ahead else batch
        with work.autocast():
            gradients = meta_gradient(work.problem, base, next(work.meta_batches), self.method)
        work.meta_update(gradients)


class Betty:
    """The paper's reference library on the same work: its estimator "sama" or "darts".

    Its problems and engine, as its own data-reweighting example states them. It evaluates weights
    at the perturbed losses too, and gives its own step length to the difference; that is left as it
    is. The last release, 0.1.1, has "darts" (what we call sama-na); "sama" is in its repository
    alone.
    """

    def __init__(self, work: Work, method: str) -> None:
        configs = importlib.import_module("betty.configs")
        implicit: Any = importlib.import_module("betty.problems").ImplicitProblem
        engine = importlib.import_module("betty.engine")

        class Base(implicit):
            def training_step(self, batches: tuple[Batch]) -> Tensor:
                (batch,) = batches
                return weighted_objective(self.weights.module, work.logits(batch), batch)

        class Weights(implicit):
            def training_step(self, batches: tuple[Batch]) -> Tensor:
                (batch,) = batches
                with work.autocast():
                    return meta_loss(work.model, batch)

        self.work = work

        def problem(kind: Any, name: str, module: Any, optimizer: Any, batches: Any) -> Any:
            unroll = {"unroll_steps": work.load.unroll} if kind is Base else {}
            return kind(
                name=name,
                config=configs.Config(type=method, **unroll),
                module=module,
                optimizer=optimizer,
                # As tuples: releases before dictionaries were understood take a batch apart.
                train_data_loader=((batch,) for batch in batches),
                device=work.replica.device,
            )

        base = problem(Base, "base", work.model, work.optimizer, work.batches)
        weights = problem(Weights, "weights", work.meta, work.meta_optimizer, work.meta_batches)
        self._engine = engine.Engine(
            config=configs.EngineConfig(train_iters=1),
            problems=[weights, base],
            dependencies={"u2l": {weights: [base]}, "l2u": {base: [weights]}},
        )
        self._engine.train()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self._engine.global_step += 1
            self._engine.train_step()
