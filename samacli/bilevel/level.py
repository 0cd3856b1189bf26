"""The meta level of a training run: the reweighter, its optimiser, and when it learns."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from samacli.bilevel.features import Evidence, Facts, needs_averaged_model
from samacli.bilevel.history import ExampleHistory
from samacli.bilevel.reweighter import Reweighter
from samacli.data import Batches
from samacli.errors import SamaError
from samacli.meta import (
    DataParallel,
    Direction,
    UnsupportedLayerError,
    WeightingProblem,
    average,
    direction,
    outputs_and_meta_gradient,
    riding,
)
from samacli.meta.distributed import Average
from samacli.progress import Progress
from samacli.recipe import Meta
from samacli.store.tree import Tree
from samacli.training.average import MovingAverage
from samacli.training.memory import free_memory, in_parts, is_out_of_memory
from samacli.training.objective import Batch, clean_loss, model_inputs, model_logits
from samacli.training.state import optimizer_state, restore_optimizer
from samacli.training.step import Forward

_log = logging.getLogger(__name__)

# An example's weight is its mean over the steps after this fraction of the run.
AVERAGE_FROM = 0.5

# The rest of a meta step, once the base step's backward pass is made: its gradient, under way.
_Finish = Callable[[float], Average]


@dataclass(frozen=True)
class CleanRows:
    """Clean rows at the base level, in a batch of their own beside the reweighted one.

    While λ learns, the base level has one part of the clean set and the meta level the other, so
    that no example is in both; then λ stays, and the base level has all of it.

    share: of the base loss. until: the fraction of the run in which λ learns.
    """

    share: float
    until: float

    def last_step(self, total_steps: int) -> int:
        """The last base step (from 1) of the part in which λ learns."""
        return max(1, int(self.until * total_steps))


class Believed(Protocol):
    """What is believed of labels, as the meta level meets it; see `samacli.bilevel.beliefs`.

    of_train: log-probabilities (n, classes) of the training rows, on the training device, or None.
    """

    of_train: Tensor | None

    def settle(self, averaged: nn.Module) -> None:
        """λ has learnt: judge by the clean rows that `averaged` has not seen; then use all."""
        ...

    def state_dict(self) -> Tree: ...

    def load_state_dict(self, state: Tree) -> None: ...


class MetaLevel:
    """Weights a batch at every base step and learns how to every `unroll` of them.

    A meta step has two halves: v is made after a base step (`after_step`), and the slope of the
    base loss along v shares the passes of the next one (`base_pass`).

    Args:
        config: the recipe's `meta` section.
        reweighter: what learns, on the training device.
        batches: endless clean batches, on the training device.
        history: where each example's weights and targets are gathered.
        facts: what is known of each training row besides the model's view.
        clean: set where clean rows share the base level's batches.
        beliefs: settled where λ has learnt and clean rows share the base level's batches.
        offset: of clean rows' logits, on the training device; see `clean_loss`.
        parallel: set where this process is one of several replicas.
        every_row: whether it is known that every training row counts (`counted`), so that no
            step need find out which do.
    """

    def __init__(
        self,
        config: Meta,
        reweighter: Reweighter,
        *,
        batches: Iterator[Batch],
        history: ExampleHistory,
        facts: Facts | None = None,
        clean: CleanRows | None = None,
        beliefs: Believed | None = None,
        offset: Tensor | float = 0.0,
        parallel: DataParallel | None = None,
        every_row: bool = False,
    ) -> None:
        self.config = config
        self.batches = batches
        self.history = history
        self.facts = facts or Facts()
        self.clean = clean
        self.beliefs = beliefs
        self.offset = offset
        self.reweighter = reweighter
        correction = reweighter.corrector is not None
        self.needs_averaged_logits = correction or needs_averaged_model(reweighter.features)
        self._every_row = every_row or correction
        self._parallel = parallel
        self._parts = 1
        self._rides = config.derivative in ("auto", "contraction") and not correction
        self._ahead: Direction | None = None
        self.rows_seen = 0

    def begin(
        self,
        model: nn.Module,
        averaged: MovingAverage,
        optimizer: torch.optim.Optimizer,
        accelerator: Accelerator,
        steps: int,
        *,
        ahead: bool,
        progress: Progress,
        description: str,
    ) -> None:
        """What is trained; model: the module itself, without DistributedDataParallel's wrapper.

        ahead: nothing in a step may wait for the device.
        """
        # The two levels chase each other: a class that loses its weight is missed by the clean set
        # some steps later. Little momentum and a rate that falls to 0 with the base level's keep
        # the weights from swinging.
        self.optimizer = torch.optim.AdamW(
            self.reweighter.parameters(),
            lr=self.config.learning_rate,
            betas=(0.5, 0.999),
            weight_decay=self.config.weight_decay,
            fused=ahead or None,
        )
        self._ahead_of_device = ahead
        self._averaged, self._accelerator, self._steps = averaged, accelerator, steps
        self._model, self._progress, self._description = model, progress, description
        self._problem = WeightingProblem(
            model=model,
            optimizer=optimizer,
            meta=self.reweighter,
            outputs=model_logits,
            objective=self.objective,
            meta_loss=self.clean_loss,
            parallel=self._parallel,
        )

    # the losses

    def objective(self, reweighter: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """Σ_i w_i(λ) ℓ(o_i, target_i(λ)) / n over the examples that are reweighted.

        The features are detached: a weight is a fact about an example, not a way for the base model
        to lower its loss. Where clean rows have a share of the base loss, this is the rest of it.
        """
        rows = self._rows(batch)
        if rows is not None:
            if not len(rows):
                return logits.sum() * 0.0
            logits = logits[rows]
        weights, targets = reweighter(self._evidence(logits, batch, rows))
        losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        return (1 - self.clean_share) * (weights * losses).mean()

    def clean_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """What both levels minimise on clean examples."""
        return clean_loss(model, batch, self.offset)

    def clean_part(self, model: nn.Module, batch: Batch) -> Tensor:
        """Clean rows' share of the base loss."""
        return self.clean_share * self.clean_loss(model, batch)

    @property
    def clean_share(self) -> float:
        """The part of the base loss that belongs to clean rows."""
        return 0.0 if self.clean is None else self.clean.share

    def counted(self, batch: Batch) -> Tensor:
        """Which rows of a batch are weighted, bool (n,): those with a given label.

        With corrected labels also those without one, whose target is what is believed of them.
        """
        told = batch["labels"] >= 0
        return torch.ones_like(told) if self.reweighter.corrector is not None else told

    def _rows(self, batch: Batch) -> Tensor | None:
        """The numbers of the rows that count (b,); None for all, known without looking."""
        return None if self._every_row else self.counted(batch).nonzero()[:, 0]

    def _evidence(self, logits: Tensor, batch: Batch, rows: Tensor | None) -> Evidence:
        """Of the `rows` of a batch, whose logits (b, classes) are given."""
        index, labels = batch["index"], batch["labels"]
        averaged = batch.get("averaged_logits")
        if rows is not None:
            index, labels = index[rows], labels[rows]
            averaged = None if averaged is None else averaged[rows]
        return self.facts.evidence(index, logits, labels, averaged)

    # a step

    @contextlib.contextmanager
    def base_pass(
        self, batch: Batch, forward: Forward, *, scale: float, progress: float
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """A base step's pass, which is also the second half of a meta step that is under way.

        That shares its passes: with sample weights alone nothing but another application of each
        layer is added (`riding`), else a forward pass without a graph, or a dual one in half
        precision. λ moves at the end; if the pass fails, it stays until the next meta step.
        """
        at, self._ahead = self._ahead, None
        if self.needs_averaged_logits:
            batch["averaged_logits"] = averaged_logits(
                self._averaged, batch, self._rows(batch), self._accelerator
            )
        finish: _Finish | None = None
        with self._accelerator.autocast():
            if at is None:
                logits = forward(compiled=True)
            else:
                logits, finish = self._pass_along(at, batch, forward)
            loss = self.objective(self.reweighter, logits, batch)
        yield logits, loss
        if finish is not None:
            self._learn(finish, scale, progress)

    def _pass_along(self, at: Direction, batch: Batch, forward: Forward) -> tuple[Tensor, _Finish]:
        """The forward pass with what it takes to differentiate the base loss along v."""

        def plain() -> Tensor:
            return forward(compiled=False)

        problem = self._problem
        if self._rides:
            try:
                with riding(problem, at, compact=True) as rider:
                    logits = plain()
            except UnsupportedLayerError as reason:
                self._rides = False
                _log.info("%s: meta steps take a pass of their own", reason)
            else:
                return logits, lambda scale: average(
                    rider.meta_gradient(batch, logits.detach(), scale), self._parallel
                )
        derivative = "auto" if self.config.derivative == "contraction" else self.config.derivative
        logits, grads = outputs_and_meta_gradient(
            problem, batch, at, derivative=derivative, base_pass=plain
        )
        under_way = average(grads, self._parallel)
        return logits, lambda scale: under_way

    def _learn(self, finish: _Finish, scale: float, progress: float) -> None:
        """Update λ. progress: the fraction of the run that is over, for the rate's schedule."""
        try:
            gradients = finish(scale).wait()
        except UnsupportedLayerError as reason:  # a layer's parameters were used behind its back
            self._rides = False
            _log.info("%s: from the next meta step on, a pass of its own", reason)
            return
        good = torch.nn.utils.get_total_norm(gradients).isfinite()
        if self._ahead_of_device:
            self.optimizer.found_inf = (~good).float()  # type: ignore[attr-defined]
        elif not good:
            return  # the base step's loss was not finite either, or is about to be
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * (1 - progress)
        for parameter, gradient in zip(self.reweighter.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()

    def after_step(
        self, step: int, seen: list[tuple[Tensor, Batch]] | None, good: Tensor | None = None
    ) -> Tensor | float:
        """Remember what the step said of its examples, and begin a meta step if it is time.

        Uses up `p.grad`. At the end of learning, where clean rows share the base level, beliefs
        are settled. Returns the meta loss, NaN without a meta step.

        good: a bool (), whether the step was one, where it is not known here; of one that was not
        nothing is remembered, and its meta step comes to nothing (∂u/∂g is not finite either).
        """
        meta_loss: Tensor | float = math.nan
        if seen is not None:
            for logits, batch in seen:
                if step > AVERAGE_FROM * self._steps:
                    self._record(logits, batch, good)
                self._remember_losses(logits, batch, good)
            if self.due(step, self._steps):
                meta_loss = self._look(step)
        self._averaged.update_parameters(self._model)
        settles = self.clean is not None and step == self.clean.last_step(self._steps)
        if settles and self.beliefs is not None:
            self.beliefs.settle(self._averaged.module)
            self.facts.prior = self.beliefs.of_train
        return meta_loss

    def due(self, step: int, total_steps: int) -> bool:
        """Whether the reweighter learns after base step `step` (counted from 1).

        Not after the last: there is no later step to share passes with, or to profit.
        """
        last = 1.0 if self.clean is None else self.clean.until
        learning = self.config.warmup * total_steps * last < step <= last * total_steps
        return learning and step % self.config.unroll == 0 and step < total_steps

    def _look(self, step: int) -> Tensor | float:
        """The first half of a meta step: v. Where memory is short none, and smaller ones from then.

        Raises:
            SamaError: one clean example does not fit, or not the batch of one of several processes.
        """
        batch = next(self.batches)
        rows = len(batch["labels"])
        part, _ = next(in_parts(batch, self._parts, batch["labels"] >= 0))
        try:
            with self._accelerator.autocast():
                self._ahead = direction(
                    self._problem, part, self.config.method, release_gradients=True
                )
            self.rows_seen += len(part["labels"]) * self._accelerator.num_processes
            return self._ahead.loss
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        where = f"{self._description}, step {step}"
        self._parts *= 2
        if self._accelerator.num_processes > 1 or self._parts >= 2 * rows:
            raise SamaError(f"{where}: out of memory in the meta step; lower meta.batch_size")
        free_memory(self._accelerator.device)
        self._progress.warn(
            f"{where}: out of memory in the meta step, which is left out; from here on half as "
            "many clean examples are taken"
        )
        return math.nan

    @torch.no_grad()
    def _record(self, logits: Tensor, batch: Batch, good: Tensor | None) -> None:
        """Remember the weights and targets that this batch was trained with."""
        rows, index = self._rows(batch), batch["index"]
        if rows is not None:
            logits, index = logits[rows], index[rows]
        if len(index):
            weights, targets = self.reweighter(self._evidence(logits, batch, rows))
            self.history.add(index, weights, targets, good=good)

    @torch.no_grad()
    def _remember_losses(self, logits: Tensor, batch: Batch, good: Tensor | None) -> None:
        """Add a base step to the rows' loss history, where that is kept."""
        if self.facts.losses is None:
            return
        rows = (batch["labels"] >= 0).nonzero()[:, 0]
        if len(rows):
            losses = self._evidence(logits[rows], batch, rows).losses
            self.facts.losses.add(batch["index"][rows], losses, good=good)

    # saved and restored

    def state_dict(self) -> Tree:
        """All that changes while training, between two base steps."""
        assert isinstance(self.batches, Batches)
        return {
            "reweighter": dict(self.reweighter.state_dict()),
            "optimizer": optimizer_state(self.optimizer),
            "rides": self._rides,
            "parts": self._parts,
            "rows_seen": self.rows_seen,
            "batches": self.batches.state_dict(),
            "history": self.history.state_dict(),
            "losses": None if self.facts.losses is None else self.facts.losses.state_dict(),
            "beliefs": None if self.beliefs is None else self.beliefs.state_dict(),
            "ahead": None if self._ahead is None else _direction_state(self._ahead),
        }

    def load_state_dict(self, state: Tree) -> None:
        """Go on from what `state_dict` gave, after `begin`."""
        if self.beliefs is not None:
            self.beliefs.load_state_dict(state["beliefs"])
            self.facts.prior = self.beliefs.of_train
        self.reweighter.load_state_dict(state["reweighter"])
        restore_optimizer(self.optimizer, state["optimizer"])
        self._rides, self._parts = state["rides"], state["parts"]
        self.rows_seen = state["rows_seen"]
        assert isinstance(self.batches, Batches)
        self.batches.load_state_dict(state["batches"])
        self.history.load_state_dict(state["history"])
        if self.facts.losses is not None:
            self.facts.losses.load_state_dict(state["losses"])
        if state["ahead"] is not None:
            self._ahead = _direction(state["ahead"], self._model)


@torch.no_grad()
def averaged_logits(
    averaged: nn.Module, batch: Batch, rows: Tensor | None, accelerator: Accelerator
) -> Tensor:
    """The averaged model's logits (n, classes) of the `rows` of a batch (b,); 0 for the others.

    rows: their numbers; None: all.
    """
    averaged.eval()
    part, count = model_inputs(batch), len(batch["labels"])
    if rows is not None and len(rows) not in (0, count):  # no model takes an empty batch
        part = {
            name: value[rows] if isinstance(value, Tensor) and len(value) == count else value
            for name, value in part.items()
        }
    else:
        rows = None
    with accelerator.autocast():
        some = model_logits(averaged, part)
    if rows is None:
        return some
    logits = some.new_zeros(count, some.shape[-1])
    logits[rows] = some
    return logits


def _direction_state(at: Direction) -> Tree:
    names = {id(p): name for name, p in at.model.named_parameters()}
    return {
        "params": [names[id(p)] for p in at.params],
        "v": list(at.v),
        "slope": at.slope,
        "loss": at.loss,
    }


def _direction(state: Tree, model: nn.Module) -> Direction:
    known = dict(model.named_parameters())
    params: list[Tensor] = [known[name] for name in state["params"]]
    v = [x.to(p.device) for x, p in zip(state["v"], params, strict=True)]
    return Direction(model, params, v, state["slope"], state["loss"])
