"""The meta level of a training run: the reweighter, its optimiser, and when it learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from samacli.meta import WeightingProblem, weighting_meta_gradient
from samacli.recipe import Meta
from samacli.recipe.schema import Feature
from samacli.training.evidence import Evidence, needs_averaged_model
from samacli.training.history import ExampleHistory
from samacli.training.objective import Batch, clean_loss, model_logits
from samacli.training.reweighter import Reweighter


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
        self.last_meta_loss = float("nan")

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
        """Whether the reweighter learns after base step `step` (counted from 1)."""
        return step > self.config.warmup * total_steps and step % self.config.unroll == 0

    def step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: Batch,
        logits: Tensor,
        progress: float,
    ) -> float:
        """One meta step after a base step, while `p.grad` still holds that step's gradient.

        The last base batch serves as the difference batch, and its logits from the step itself are
        the θ at which weights are evaluated, so no pass is spent on them.

        progress: the fraction of the run that is over, for the meta level's own schedule.
        Returns: the meta loss.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * (1 - progress)
        losses: list[Tensor] = []

        def meta_loss(model: nn.Module, clean: Batch) -> Tensor:
            loss = clean_loss(model, clean)
            losses.append(loss.detach())
            return loss

        problem = WeightingProblem(
            model=model,
            optimizer=optimizer,
            meta=self.reweighter,
            outputs=model_logits,
            objective=self.objective,
            meta_loss=meta_loss,
        )
        gradients = weighting_meta_gradient(
            problem,
            batch,
            next(self.batches),
            method=self.config.method,
            outputs_at_theta=logits.detach(),
            derivative=self.config.derivative,
        )
        for parameter, gradient in zip(self.reweighter.parameters(), gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.last_meta_loss = float(losses[0])
        return self.last_meta_loss

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
