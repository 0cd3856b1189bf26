"""The meta level of a training run: the reweighter, its optimiser, and when it learns."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    Clip,
    DataParallel,
    Direction,
    UnsupportedLayerError,
    WeightingProblem,
    average,
    direction,
    mixed_derivative,
    outputs_and_tangent,
    riding,
)
from samacli.meta.preserve import preserved
from samacli.meta.weight_net import normalized
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

# Where the recipe does not say: slopes are of use from the start, losses only once the base model
# has learnt something.
WARMUP, WARMUP_OF_SLOPES = 0.25, 0.05


def warmup(config: Meta, *, slopes: bool) -> float:
    """The fraction of the part in which λ learns before the first meta step."""
    if config.warmup is not None:
        return config.warmup
    return WARMUP_OF_SLOPES if slopes else WARMUP


# The rest of a meta step, once a base pass's backward pass is made: ȯ (n, classes), the logits'
# derivative along v, or what of it weights depend on.
_Finish = Callable[[float], Tensor]


@dataclass
class _Pass:
    """What a base pass leaves, detached: what the rows that count (b,) were given, and losses.

    weights: (b,), of mean 1 over the step once its passes are made. targets: (b,) or (b, classes).
    outputs: logits (n, classes) of all rows of the pass. evidence: of those that count.
    losses: of all rows of the pass, where losses are remembered: their numbers (n,), nats (n,), and
    whether (0 or 1) they have a given label (n,).
    moments: of the features, where they are standardised, see `Reweighter.moments`; times scale.
    slopes: of all rows of the pass, where a meta step shares it: their numbers (n,), slopes (n,),
    NaN for those that do not count, given labels (n,), and evidence (n, columns), of none where
    weights do not learn from it.
    """

    index: Tensor
    weights: Tensor
    targets: Tensor
    outputs: Tensor
    evidence: Evidence
    losses: tuple[Tensor, Tensor, Tensor] | None = None
    moments: Tensor | None = None
    slopes: tuple[Tensor, Tensor, Tensor, Tensor] | None = None


class _Scaled(nn.Module):
    """λ and a number that multiplies the objective, whose derivative is thus the objective's."""

    def __init__(self, reweighter: Reweighter) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones((), device=_device(reweighter)))
        self.reweighter = reweighter


def _device(module: nn.Module) -> torch.device:
    return next(itertools.chain(module.parameters(), module.buffers())).device


class _Sums:
    """A step of several passes, whose weights w have mean W only over all of them.

    Its loss is A/W with A = Σ_p s_p·mean_p(w ℓ) and W = Σ_p s_p·mean_p(w), s_p the passes' shares.
    Both are sums over passes and means over processes, and so are their derivatives by λ.
    """

    def __init__(self, reweighter: Reweighter) -> None:
        self._params = list(reweighter.parameters())
        self._sums = [torch.zeros((), device=_device(reweighter)) for _ in range(2)]
        self._sums += [torch.zeros_like(p) for p in self._params * 2]

    def add_mean(self, mean: Tensor, scale: float, *, slope: bool) -> None:
        """A pass's mean weight, with its graph. slope: its derivative too."""
        self._sums[0] = self._sums[0] + mean.detach() * scale
        if slope and mean.requires_grad:
            found = torch.autograd.grad(mean, self._params, retain_graph=True, allow_unused=True)
            for i, gradient in enumerate(found):
                if gradient is not None:
                    self._sums[2 + i] += gradient * scale

    def add_slope(self, gradients: Sequence[Tensor], scale: float) -> None:
        """A pass's −Ȧ and −∂Ȧ/∂λ (the dot: along v), of a loss that its scale did not multiply."""
        self._sums[1] = self._sums[1] - gradients[0] * scale
        for i, gradient in enumerate(gradients[1:], 2 + len(self._params)):
            self._sums[i] -= gradient * scale

    def end(
        self, parallel: DataParallel | None, *, moved: bool
    ) -> tuple[Tensor, list[Tensor] | None]:
        """(1/W, −∂/∂λ of (A/W)˙; the latter None where there was no meta step: `moved`)."""
        sums = self._sums if moved else self._sums[:1]
        mean, *others = average(sums, parallel).wait()
        mean = mean.clamp_min(torch.finfo(mean.dtype).tiny)
        if not moved:
            return 1 / mean, None
        value, count = others[0], len(self._params)
        of_mean, of_value = others[1 : 1 + count], others[1 + count :]
        pairs = zip(of_mean, of_value, strict=True)
        return 1 / mean, [(value * w / mean - a) / mean for w, a in pairs]


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
        self._params = list(reweighter.parameters())
        self._scaled = _Scaled(reweighter)

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
        # Weights that are fitted to slopes have no parameters.
        self.optimizer = None
        if self._params:
            self.optimizer = torch.optim.AdamW(
                self._params,
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
        self._summed = replace(
            self._problem, meta=self._scaled, objective=self._unnormalised, parallel=None
        )

    # the losses

    def objective(self, reweighter: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """Σ_i w_i(λ) ℓ(o_i, target_i(λ)) / n over the examples that are reweighted.

        The features are detached: a weight is a fact about an example, not a way for the base model
        to lower its loss. Where clean rows have a share of the base loss, this is the rest of it.
        """
        _, counted, evidence = self._counted(logits, batch)
        weights, targets = self._weighed(reweighter, evidence)
        return self._loss(normalized(weights), targets, counted)

    def _unnormalised(self, scaled: nn.Module, logits: Tensor, batch: Batch) -> Tensor:
        """The same with weights of any mean, times `scaled.factor`."""
        assert isinstance(scaled, _Scaled)
        _, counted, evidence = self._counted(logits, batch)
        weights, targets = self._weighed(scaled.reweighter, evidence)
        return scaled.factor * self._loss(weights, targets, counted)

    def _weighed(self, reweighter: nn.Module, evidence: Evidence) -> tuple[Tensor, Tensor]:
        """Weights (b,), not normalised, and targets."""
        assert isinstance(reweighter, Reweighter)
        if not len(evidence.labels):
            return evidence.logits.new_ones(0), evidence.labels
        with torch.autocast(evidence.logits.device.type, enabled=False):
            return reweighter.raw(evidence)

    def _loss(self, weights: Tensor, targets: Tensor, logits: Tensor) -> Tensor:
        if not len(logits):
            return logits.sum() * 0.0
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

    def _counted(self, logits: Tensor, batch: Batch) -> tuple[Tensor | None, Tensor, Evidence]:
        """The rows that count (`_rows`), their logits (b, classes), and what is known of them."""
        rows = self._rows(batch)
        index, labels = batch["index"], batch["labels"]
        averaged = batch.get("averaged_logits")
        if rows is not None:
            logits, index, labels = logits[rows], index[rows], labels[rows]
            averaged = None if averaged is None else averaged[rows]
        return rows, logits, self.facts.evidence(index, logits, labels, averaged)

    # a step

    def begin_step(self, *, alone: bool) -> None:
        """A step begins, or begins again in smaller parts: then without the meta step under way.

        alone: one pass of one process is all of it, and its weights have mean 1 at once.
        """
        self._at, self._ahead = self._ahead, None
        self._passes: list[_Pass] = []
        self._sums = None if alone else _Sums(self.reweighter)
        self._gradients: list[Tensor] | None = None

    @contextlib.contextmanager
    def base_pass(
        self, batch: Batch, forward: Forward, *, scale: float
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """A base step's pass, which is also the second half of a meta step that is under way.

        That shares its passes: with sample weights alone nothing but another application of each
        layer is added (`riding`), else a forward pass without a graph, or a dual one in half
        precision.
        """
        if self.needs_averaged_logits:
            batch["averaged_logits"] = averaged_logits(
                self._averaged, batch, self._rows(batch), self._accelerator
            )
        finish: _Finish | None = None
        with self._accelerator.autocast():
            if self._at is None:
                logits = forward(compiled=True)
            else:
                logits, finish = self._pass_along(self._at, batch, forward)
            loss = self._take(logits, batch, scale)
        yield logits, loss
        if finish is not None:
            self._learn_from(finish, batch, scale)

    def _take(self, logits: Tensor, batch: Batch, scale: float) -> Tensor:
        """The pass's loss; what it gave its rows is kept."""
        rows, counted, evidence = self._counted(logits, batch)
        index = batch["index"] if rows is None else batch["index"][rows]
        weights, targets = self._weighed(self.reweighter, evidence)
        if self._sums is None:
            weights = normalized(weights)
        elif len(weights):
            self._sums.add_mean(weights.mean(), scale, slope=self._at is not None)
        weights, targets = weights.detach(), targets.detach()
        done = _Pass(index, weights, targets, logits.detach(), evidence)
        self._passes.append(done)
        if self.facts.losses is not None:
            labels = batch["labels"]
            losses = torch.nn.functional.cross_entropy(
                logits.detach(), labels, reduction="none", ignore_index=-1
            )
            done.losses = (batch["index"], losses, (labels >= 0).long())
        if self.reweighter.standardize:
            done.moments = self.reweighter.moments(evidence) * scale
        return self._loss(weights, targets, counted)

    def _pass_along(self, at: Direction, batch: Batch, forward: Forward) -> tuple[Tensor, _Finish]:
        """The forward pass with what it takes to differentiate the base loss along v."""

        def plain() -> Tensor:
            return forward(compiled=False)

        problem, several = self._problem, self._sums is not None
        if several:
            problem = self._summed
        if self._rides:
            try:
                with riding(problem, at, compact=True, keep=several) as rider:
                    logits = plain()
            except UnsupportedLayerError as reason:
                self._rides = False
                _log.info("%s: meta steps take a pass of their own", reason)
            else:
                return logits, lambda scale: rider.tangent(batch, logits.detach(), scale)
        derivative = "auto" if self.config.derivative == "contraction" else self.config.derivative
        logits, tangent = outputs_and_tangent(
            problem, batch, at, derivative=derivative, base_pass=plain, keep=several
        )
        return logits, lambda scale: tangent

    def _learn_from(self, finish: _Finish, batch: Batch, scale: float) -> None:
        """Once a pass is made: its part of the meta gradient, and its slopes."""
        try:
            tangent = finish(scale)
        except UnsupportedLayerError as reason:  # a layer's parameters were used behind its back
            self._rides, self._at = False, None
            _log.info("%s: from the next meta step on, a pass of its own", reason)
            return
        done = self._passes[-1]
        done.slopes = self._slopes(done, batch, tangent)
        if not self._params:
            return
        problem = self._problem if self._sums is None else self._summed
        with preserved(self.reweighter):
            gradients = mixed_derivative(problem, batch, done.outputs, tangent)
        if self._sums is None:
            self._gradients = gradients
        else:
            self._sums.add_slope(gradients, scale)

    def _slopes(
        self, done: _Pass, batch: Batch, tangent: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """c_i = ⟨p_i − target_i, ȯ_i⟩, with what is known of the rows."""
        rows, labels = self._rows(batch), batch["labels"]
        part = tangent.detach().float() if rows is None else tangent.detach().float()[rows]
        found = (done.evidence.logits.softmax(-1) * part).sum(-1)
        if done.targets.dim() == 1:
            found = found - part.gather(1, done.targets[:, None])[:, 0]
        else:
            found = found - (done.targets * part).sum(-1)
        x = found.new_zeros(len(found), 0)
        if self.reweighter.slopes is not None:
            x = self.reweighter.inputs(done.evidence)
        if rows is None:
            return batch["index"], found, labels, x
        slopes = found.new_full((len(labels),), math.nan)
        slopes[rows] = found
        whole = x.new_zeros(len(labels), x.shape[1])
        whole[rows] = x
        return batch["index"], slopes, labels, whole

    def end_passes(self) -> Tensor | None:
        """The base passes are made: what brings the mean weight of all of them to 1.

        Their gradients and losses are to be multiplied by it, () on the device; None: by 1.
        """
        if self._sums is None:
            return None
        # A meta step that some pass dropped out of is none.
        factor, self._gradients = self._sums.end(self._parallel, moved=self._at is not None)
        for done in self._passes:
            done.weights *= factor
        return factor

    def after_step(
        self, step: int, good: Tensor | bool = True, clip: Clip | None = None
    ) -> Tensor | float:
        """Remember what the step gave its examples, let λ learn, and begin a meta step in time.

        Uses up `p.grad`. At the end of learning, where clean rows share the base level, beliefs
        are settled. Returns the meta loss, NaN without a meta step.

        good: whether it was not skipped; a bool () where that is not known here: of a step that was
        nothing is remembered, λ stays, and the next meta step comes to nothing (∂u/∂g is not
        finite either). clip: of its gradients; ∂u/∂g counts the factor.
        """
        meta_loss: Tensor | float = math.nan
        if good is not False:
            unsure = good if isinstance(good, Tensor) else None
            self._remember(step, unsure)
            self._learn(step, unsure)
            if self.due(step, self._steps):
                meta_loss = self._look(step, clip)
                self._nudge(unsure)
        self._averaged.update_parameters(self._model)
        settles = self.clean is not None and step == self.clean.last_step(self._steps)
        if settles and self.beliefs is not None:
            self.beliefs.settle(self._averaged.module)
            self.facts.prior = self.beliefs.of_train
        return meta_loss

    def _remember(self, step: int, good: Tensor | None) -> None:
        """What the step's passes gave their examples, and what those were like."""
        for done in self._passes:
            if step > AVERAGE_FROM * self._steps and len(done.index):
                self.history.add(done.index, done.weights, done.targets, good=good)
            if self.facts.losses is not None and done.losses is not None:
                # The next process to meet a row is seldom the one that has met it.
                index, losses, told = self._accelerator.gather(done.losses)
                rows = told.nonzero()[:, 0]
                if len(rows):
                    self.facts.losses.add(index[rows], losses[rows], good=good)
        moments = [done.moments for done in self._passes if done.moments is not None]
        if moments:
            (found,) = average([torch.stack(moments).sum(0)], self._parallel).wait()
            self.reweighter.follow(found, good)
        if (slopes := self.reweighter.slopes) is not None:
            masses = [slopes.masses(done.weights, done.evidence.labels) for done in self._passes]
            (found,) = average([torch.stack(masses).sum(0)], self._parallel).wait()
            slopes.follow(found, good)

    def _learn(self, step: int, good: Tensor | None) -> None:
        """Update λ by the meta gradient and the slopes that the step's passes have made, if any."""
        gradients, self._gradients = self._gradients, None
        slopes = [done.slopes for done in self._passes if done.slopes is not None]
        self._passes = []
        if slopes:
            index, found, labels, x = (torch.cat(parts) for parts in zip(*slopes, strict=True))
            rows = found.isfinite().sum() * self._accelerator.num_processes
            self.history.add_values(index, found * (1 - self.clean_share) / rows, good=good)
            if self.reweighter.slopes is not None:
                index, labels, x, found = self._accelerator.gather((index, labels, x, found))
                self.reweighter.slopes.learn(index, labels, x, found, good)
        if not gradients or self.optimizer is None:
            return
        finite = torch.nn.utils.get_total_norm(gradients).isfinite()
        if self._ahead_of_device:
            finite = finite if good is None else finite & good
            self.optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
        elif not finite:
            return
        over = (step - 1) / (self._steps * self._until)  # of the part in which λ learns
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * max(0.0, 1 - over)
        for parameter, gradient in zip(self._params, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()

    @property
    def _until(self) -> float:
        """The fraction of the run in which λ learns."""
        return 1.0 if self.clean is None else self.clean.until

    @property
    def _warmup(self) -> float:
        """The fraction of that part before the first meta step."""
        return warmup(self.config, slopes=self.reweighter.slopes is not None)

    def due(self, step: int, total_steps: int) -> bool:
        """Whether the reweighter learns after base step `step` (counted from 1).

        Not after the last: there is no later step to share passes with, or to profit.
        """
        last = self._until * total_steps
        learning = self._warmup * last < step <= last
        return learning and step % self.config.every == 0 and step < total_steps

    def _look(self, step: int, clip: Clip | None) -> Tensor | float:
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
                    self._problem,
                    part,
                    self.config.method,
                    release_gradients=True,
                    clip=clip,
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
    def _nudge(self, good: Tensor | None) -> None:
        """θ ← θ − meta.nudge · v, with v what a meta step has just begun by, if it has.

        For v = (∂u/∂g)ᵀ ∂L_meta/∂θ, ∂u/∂g element by element, that is what the base step's own
        change would be of, were the clean gradient added to its gradient.
        """
        if not self.config.nudge or self._ahead is None:
            return
        for parameter, v in zip(self._ahead.params, self._ahead.v, strict=True):
            moved = v if good is None else torch.where(good, v, torch.zeros_like(v))
            parameter.add_(moved, alpha=-self.config.nudge)

    # saved and restored

    def state_dict(self) -> Tree:
        """All that changes while training, between two base steps."""
        assert isinstance(self.batches, Batches)
        return {
            "reweighter": dict(self.reweighter.state_dict()),
            "optimizer": None if self.optimizer is None else optimizer_state(self.optimizer),
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
        if self.optimizer is not None:
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
