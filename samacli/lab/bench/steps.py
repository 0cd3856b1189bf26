"""The training steps of each contender: one class a kind, all with `run(steps)`."""

from __future__ import annotations

from itertools import islice
from typing import Any, Protocol

from torch import Tensor

from samacli.lab.bench.betty import Betty
from samacli.lab.bench.contenders import BETTY, FORM_OF_TRAINING, PLAIN, SAMA, Contender
from samacli.lab.bench.work import Work, plain_objective, weighted_objective
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
from samacli.training.objective import Batch


class Steps(Protocol):
    """Training that goes on where it stopped."""

    work: Work

    def run(self, steps: int) -> None:
        """`steps` more base steps, with a meta step to every `unroll` of them."""
        ...


class Plain:
    """No meta level: mean cross-entropy."""

    def __init__(self, work: Work) -> None:
        self.work = work

    def run(self, steps: int) -> None:
        work = self.work
        for batch in islice(work.batches, steps):
            work.optimizer.zero_grad()
            plain_objective(work.logits(batch), batch).backward()
            work.optimizer.step()


class Sama:
    """SAMA or SAMA-NA, by preference on the way to the next base step.

    form: see `contenders.FORMS`. Where a model's layers have no rule for the contraction and the
    form was not asked for, "riding" gives way to "sharing".
    """

    def __init__(self, work: Work, method: str, form: str | None) -> None:
        self.work = work
        self.method = method
        self.form = form or FORM_OF_TRAINING
        self._may_change_form = form is None
        self._at: Direction | None = None
        self._count = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self._count += 1
            self.step(next(self.work.batches), meta_due=self._count % self.work.setting.unroll == 0)

    def step(self, batch: Batch, *, meta_due: bool) -> None:
        """One base step with what is due of the meta step before it."""
        work = self.work
        work.optimizer.zero_grad()
        at, self._at = self._at, None
        if at is None:
            logits = work.logits(batch)
            weighted_objective(work.meta, logits, batch).backward()
        else:
            logits, gradients = self.passes(batch, at)
            work.meta_update(gradients)
        work.optimizer.step()
        if not meta_due:
            return
        with work.autocast():
            if self.form != "apart":
                self._at = direction(
                    work.problem, next(work.meta_batches), self.method, release_gradients=True
                )
                return
            gradients = weighting_meta_gradient(
                work.problem,
                batch,
                next(work.meta_batches),
                method=self.method,
                outputs_at_theta=logits.detach(),
            )
        work.meta_update(gradients)

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
        weighted_objective(work.meta, logits, batch).backward()
        return logits, under_way.wait()

    def _ride(self, batch: Batch, at: Direction) -> tuple[Tensor, list[Tensor]]:
        work = self.work
        with work.autocast(), riding(work.problem, at, compact=True) as rider:
            logits = work.logits(batch)
        weighted_objective(work.meta, logits, batch).backward()
        return logits, average(rider.meta_gradient(batch, logits), work.replica.parallel).wait()


class SecondOrder:
    """Neumann series, conjugate gradients, or straight through the next steps."""

    def __init__(self, work: Work, method: str) -> None:
        self.work = work
        self.method = method
        self._count = 0

    def run(self, steps: int) -> None:
        work = self.work
        for batch in islice(work.batches, steps):
            self._count += 1
            work.optimizer.zero_grad()
            weighted_objective(work.meta, work.logits(batch), batch).backward()
            work.optimizer.step()
            if self._count % work.setting.unroll:
                continue
            with work.autocast():
                gradients = meta_gradient(
                    work.problem, self._base(batch), next(work.meta_batches), self.method
                )
            work.meta_update(gradients)

    def _base(self, batch: Batch) -> Any:
        """What the estimator looks at: the last batch, or (unrolled) one a step ahead."""
        if self.method != "unrolled":
            return batch
        return list(islice(self.work.batches, self.work.setting.unroll))


def steps_of(contender: Contender, work: Work) -> Steps:
    """The training steps of a contender on this work."""
    if contender.estimator == PLAIN:
        return Plain(work)
    if contender.estimator in SAMA:
        return Sama(work, contender.estimator, contender.form)
    if contender.estimator in BETTY:
        return Betty(work, contender.estimator.removeprefix("betty-"))
    return SecondOrder(work, contender.estimator)
