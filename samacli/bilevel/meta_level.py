"""The meta level of a training run: the reweighter, its optimiser, and when it learns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from samacli.bilevel.evidence import Evidence, needs_averaged_model
from samacli.bilevel.facts import Facts
from samacli.bilevel.history import ExampleHistory
from samacli.bilevel.reweighter import Reweighter
from samacli.data import Batches
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
from samacli.recipe import Meta
from samacli.store.tree import Tree
from samacli.training.memory import in_parts
from samacli.training.objective import Batch, clean_loss, model_logits
from samacli.training.optimizer_state import optimizer_state, restore_optimizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CleanRows:
    """Clean rows at the base level, in a batch of their own beside the reweighted one.

    While λ learns, the base level has one part of the clean set and the meta level the other, so
    that no example is in both; then λ stays, and the base level has all of it.

    share: of the base loss. until: the fraction of the run in which λ learns. settle: called once
    at its end with the averaged model. settled: what that left behind, for a checkpoint; None
    before. resettle: takes it back from there.
    """

    share: float
    until: float
    settle: Callable[[nn.Module], None]
    settled: Callable[[], Tree] = lambda: None
    resettle: Callable[[Tree], None] = lambda tree: None

    def last_step(self, total_steps: int) -> int:
        """The last base step (from 1) of the part in which λ learns."""
        return max(1, int(self.until * total_steps))


class MetaLevel:
    """Weights a batch at every base step and learns how to every `unroll` of them.

    Args:
        config: the recipe's `meta` section.
        reweighter: what learns, on the training device.
        batches: endless clean batches, on the training device.
        history: where each example's weights and targets are gathered.
        facts: what is known of each training row besides the model's view.
        clean: set where clean rows share the base level's batches.
        offset: of clean rows' logits, on the training device; see `clean_loss`.
        parallel: set where this process is one of several replicas.
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
        offset: Tensor | float = 0.0,
        parallel: DataParallel | None = None,
    ) -> None:
        self.config = config
        self.batches = batches
        self.history = history
        self.facts = facts or Facts()
        self.clean = clean
        self.offset = offset
        self.reweighter = reweighter
        correction = reweighter.corrector is not None
        self.needs_averaged_logits = correction or needs_averaged_model(reweighter.features)
        # The two levels chase each other: a class that loses its weight is missed by the clean set
        # some steps later. Little momentum and a rate that falls to 0 with the base level's keep
        # the weights from swinging.
        self.optimizer = torch.optim.AdamW(
            self.reweighter.parameters(),
            lr=config.learning_rate,
            betas=(0.5, 0.999),
            weight_decay=config.weight_decay,
        )
        self._parallel = parallel
        self._parts, self._rows = 1, 0
        self._rides = config.derivative in ("auto", "contraction") and not correction
        self._problem: WeightingProblem | None = None
        self._ahead: Direction | None = None
        self._finish: Callable[[float], Average] | None = None

    def objective(self, reweighter: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """Σ_i w_i(λ) ℓ(o_i, target_i(λ)) / n over the examples that are reweighted.

        The features are detached: a weight is a fact about an example, not a way for the base model
        to lower its loss. Where clean rows have a share of the base loss, this is the rest of it.
        """
        rows = self.reweighted(batch)
        if not rows.any():
            return logits.sum() * 0.0
        weights, targets = reweighter(self._evidence(logits, batch, rows))
        losses = torch.nn.functional.cross_entropy(logits[rows], targets, reduction="none")
        return (1 - self.clean_share) * (weights * losses).mean()

    def clean_loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """What both levels minimise on clean examples."""
        return clean_loss(model, batch, self.offset)

    @property
    def clean_share(self) -> float:
        """The part of the base loss that belongs to clean rows."""
        return 0.0 if self.clean is None else self.clean.share

    def reweighted(self, batch: Batch) -> Tensor:
        """Which rows of a batch are weighted (n,): those with a given label.

        With corrected labels also those without one, whose target is what is believed of them.
        """
        told = batch["labels"] >= 0
        return torch.ones_like(told) if self.reweighter.corrector is not None else told

    def due(self, step: int, total_steps: int) -> bool:
        """Whether the reweighter learns after base step `step` (counted from 1).

        Not after the last: there is no later step to share passes with, or to profit.
        """
        last = 1.0 if self.clean is None else self.clean.until
        learning = self.config.warmup * total_steps * last < step <= last * total_steps
        return learning and step % self.config.unroll == 0 and step < total_steps

    def look(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        """The first half of a meta step, after a base step: v. Uses up `p.grad`.

        model: the module itself, without DistributedDataParallel's wrapper.
        Returns: the meta loss.
        """
        self._problem = self._new_problem(model, optimizer)
        batch = next(self.batches)
        self._rows = len(batch["labels"])
        batch, _ = next(in_parts(batch, self._parts, batch["labels"] >= 0))
        self._ahead = direction(self._problem, batch, self.config.method, release_gradients=True)
        return self._ahead.loss

    def halve_batches(self) -> bool:
        """Take half as many rows of each clean batch from now on; False: it is one row already."""
        self._ahead = None
        self._parts *= 2
        return self._parts < 2 * self._rows

    def _new_problem(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> WeightingProblem:
        return WeightingProblem(
            model=model,
            optimizer=optimizer,
            meta=self.reweighter,
            outputs=model_logits,
            objective=self.objective,
            meta_loss=self.clean_loss,
            parallel=self._parallel,
        )

    def give_up(self) -> None:
        """Let go of a meta step that is under way: λ then stays as it is until the next one."""
        self._ahead = self._finish = None

    def state(self) -> Tree:
        """All that changes while training, for a checkpoint: between two base steps."""
        assert isinstance(self.batches, Batches)
        return {
            "reweighter": dict(self.reweighter.state_dict()),
            "optimizer": optimizer_state(self.optimizer),
            "rides": self._rides,
            "parts": self._parts,
            "batches": self.batches.state(),
            "history": self.history.state(),
            "losses": None if self.facts.losses is None else self.facts.losses.state(),
            "settled": None if self.clean is None else self.clean.settled(),
            "ahead": None if self._ahead is None else _direction_state(self._ahead),
        }

    def restore(self, state: Tree, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Go on from what `state` gave; model, optimizer: as for `look`, restored already."""
        if state["settled"] is not None and self.clean is not None:
            self.clean.resettle(state["settled"])
        self.reweighter.load_state_dict(state["reweighter"])
        restore_optimizer(self.optimizer, state["optimizer"])
        self._rides, self._parts = state["rides"], state["parts"]
        assert isinstance(self.batches, Batches)
        self.batches.restore(state["batches"])
        self.history.restore(state["history"])
        if self.facts.losses is not None:
            self.facts.losses.restore(state["losses"])
        if state["ahead"] is not None:
            self._problem = self._new_problem(model, optimizer)
            self._ahead = _direction(state["ahead"], model)

    @property
    def step_under_way(self) -> bool:
        """Whether the next base pass is also the second half of a meta step."""
        return self._ahead is not None

    def base_pass(self, batch: Batch, forward: Callable[[], Tensor]) -> Tensor:
        """The next base step's forward pass, `forward()`, and what it takes to differentiate it.

        The second half of a meta step shares the passes of the base step after it: with sample
        weights alone nothing but another application of each layer is added (`riding`), else a
        forward pass without a graph, or a dual one in half precision.
        """
        self._finish = None
        if self._ahead is None:
            return forward()
        at, self._ahead = self._ahead, None
        assert self._problem is not None
        problem = self._problem
        if self._rides:
            try:
                with riding(problem, at, compact=True) as rider:
                    logits = forward()
            except UnsupportedLayerError as reason:
                self._rides = False
                _log.info("%s: meta steps take a pass of their own", reason)
            else:
                self._finish = lambda scale: average(
                    rider.meta_gradient(batch, logits.detach(), scale), self._parallel
                )
                return logits
        derivative = "auto" if self.config.derivative == "contraction" else self.config.derivative
        logits, grads = outputs_and_meta_gradient(
            problem, batch, at, derivative=derivative, base_pass=forward
        )
        under_way = average(grads, self._parallel)
        self._finish = lambda scale: under_way
        return logits

    def learn(self, loss_scale: float, progress: float) -> None:
        """Update λ, if a meta step is under way: after the backward pass that followed `base_pass`.

        loss_scale: what the loss was multiplied by before the backward pass.
        progress: the fraction of the run that is over, for the meta level's own schedule.
        """
        if self._finish is None:
            return
        finish, self._finish = self._finish, None
        try:
            gradients = finish(loss_scale).wait()
        except UnsupportedLayerError as reason:  # a layer's parameters were used behind its back
            self._rides = False
            _log.info("%s: from the next meta step on, a pass of its own", reason)
            return
        if not torch.nn.utils.get_total_norm(gradients).isfinite():
            return  # the base step's loss was not finite either, or is about to be
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * (1 - progress)
        for parameter, gradient in zip(self.reweighter.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()

    def settle(self, step: int, total_steps: int, averaged: nn.Module) -> None:
        """At the end of learning, where clean rows share the base level: what then changes.

        averaged: the moving average of the model, which has not yet seen the meta rows.
        """
        if self.clean is not None and step == self.clean.last_step(total_steps):
            self.clean.settle(averaged)

    @torch.no_grad()
    def record(self, logits: Tensor, batch: Batch) -> None:
        """Remember the weights and targets that this batch was trained with."""
        rows = self.reweighted(batch)
        if rows.any():
            weights, targets = self.reweighter(self._evidence(logits, batch, rows))
            self.history.add(batch["index"][rows], weights, targets)

    def _evidence(self, logits: Tensor, batch: Batch, rows: Tensor) -> Evidence:
        averaged = batch.get("averaged_logits")
        return self.facts.evidence(
            batch["index"][rows],
            logits[rows],
            batch["labels"][rows],
            None if averaged is None else averaged[rows],
        )

    @torch.no_grad()
    def remember_losses(self, logits: Tensor, batch: Batch) -> None:
        """Add a base step to the rows' loss history, where that is kept."""
        if self.facts.losses is None:
            return
        rows = batch["labels"] >= 0
        if rows.any():
            losses = self._evidence(logits, batch, rows).losses
            self.facts.losses.add(batch["index"][rows], losses)


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
