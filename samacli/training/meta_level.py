"""The meta level of a training run: the reweighter, its optimiser, and when it learns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

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
from samacli.recipe.schema import Feature
from samacli.training.evidence import Evidence, needs_averaged_model
from samacli.training.history import ExampleHistory
from samacli.training.objective import Batch, clean_loss, model_logits
from samacli.training.reweighter import Reweighter

_log = logging.getLogger(__name__)


class MetaLevel:
    """Weights a batch at every base step and learns how to every `unroll` of them.

    Args:
        config: the recipe's `meta` section.
        features: what the reweighter sees.
        correction: whether it corrects labels too.
        classes: number of classes.
        batches: endless clean batches, on the training device.
        history: where each example's weights and targets are gathered.
        device: where the reweighter lives.
        parallel: set where this process is one of several replicas.
    """

    def __init__(
        self,
        config: Meta,
        features: Sequence[Feature],
        *,
        correction: bool,
        classes: int,
        batches: Iterator[Batch],
        history: ExampleHistory,
        device: torch.device,
        parallel: DataParallel | None = None,
    ) -> None:
        self.config = config
        self.batches = batches
        self.history = history
        self.needs_averaged_logits = correction or needs_averaged_model(features)
        self.reweighter = Reweighter(
            features,
            classes,
            hidden=config.hidden,
            correction=correction,
            standardize=config.standardize,
        ).to(device)
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
        self._rides = config.derivative in ("auto", "contraction") and not correction
        self._problem: WeightingProblem | None = None
        self._ahead: Direction | None = None
        self._finish: Callable[[float], Average] | None = None

    def objective(self, reweighter: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """Σ_i w_i(λ) ℓ(o_i, target_i(λ)) / n over the examples with a given label.

        The features are detached: a weight is a fact about an example, not a way for the base model
        to lower its loss.
        """
        labelled = batch["labels"] >= 0
        if not labelled.any():
            return logits.sum() * 0.0
        logits = logits[labelled]
        evidence = self._evidence(logits, batch, labelled)
        weights, targets = reweighter(evidence)
        losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        return (weights * losses).mean()

    def due(self, step: int, total_steps: int) -> bool:
        """Whether the reweighter learns after base step `step` (counted from 1).

        Not after the last: there is no later step to share passes with, or to profit.
        """
        first = step > self.config.warmup * total_steps
        return first and step % self.config.unroll == 0 and step < total_steps

    def look(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        """The first half of a meta step, after a base step: v. Uses up `p.grad`.

        model: the module itself, without DistributedDataParallel's wrapper.
        Returns: the meta loss.
        """
        self._problem = WeightingProblem(
            model=model,
            optimizer=optimizer,
            meta=self.reweighter,
            outputs=model_logits,
            objective=self.objective,
            meta_loss=clean_loss,
            parallel=self._parallel,
        )
        self._ahead = direction(
            self._problem, next(self.batches), self.config.method, release_gradients=True
        )
        return self._ahead.loss

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
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * (1 - progress)
        for parameter, gradient in zip(self.reweighter.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def record(self, logits: Tensor, batch: Batch) -> None:
        """Remember the weights and targets that this batch was trained with."""
        labelled = batch["labels"] >= 0
        if labelled.any():
            weights, targets = self.reweighter(self._evidence(logits[labelled], batch, labelled))
            self.history.add(batch["index"][labelled], weights, targets)

    @staticmethod
    def _evidence(logits: Tensor, batch: Batch, labelled: Tensor) -> Evidence:
        averaged = batch.get("averaged_logits")
        return Evidence(
            logits.detach(),
            batch["labels"][labelled],
            None if averaged is None else averaged[labelled],
        )
