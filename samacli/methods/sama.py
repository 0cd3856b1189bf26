"""SAMA itself, and without algorithmic adaptation: a bilevel run, and what it says of each row."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samacli.bilevel.beliefs import Beliefs, Labels
from samacli.bilevel.features import Facts, LossHistory, needs_averaged_model
from samacli.bilevel.frequencies import class_frequencies, drawn_evenly
from samacli.bilevel.history import ExampleHistory
from samacli.bilevel.level import CleanRows, MetaLevel, warmup
from samacli.bilevel.rater import Rater
from samacli.bilevel.reweighter import Reweighter
from samacli.bilevel.scored import Scored, Summary, summarize
from samacli.bilevel.slopes import Projection
from samacli.bilevel.weight_function import weight_function
from samacli.data import Batches
from samacli.data.batches import Beside, Mapped
from samacli.data.carve import halves
from samacli.errors import SamaError
from samacli.meta import DataParallel
from samacli.methods.run import MethodRun, measured
from samacli.models import is_pretrained
from samacli.progress import Planned
from samacli.recipe import Meta, Reweight
from samacli.recipe.schema import Feature
from samacli.training.experiment import FORWARD, Experiment, Subset
from samacli.training.loop import Fit
from samacli.training.objective import to_device
from samacli.training.observation import Observer

# With clean rows in the base model's batches: in this fraction of the steps the reweighter learns,
# from clean rows that the base model then does not see, so many a class, but half of it at most.
# Afterwards the base model sees all.
LEARN_UNTIL, HELD_OUT_PER_CLASS = 0.5, 16
# The warm-up of meta steps never ends.
NO_META_STEPS = {"warmup": 1.0}


def sama(experiment: Experiment, name: str, seed: int, **meta: Any) -> MethodRun:
    """Weights (and labels, with `reweight.correction`) learnt from the clean set.

    meta: in place of the recipe's values of that section.
    """
    run, scored = fit_sama(
        experiment,
        seed,
        f"{name}, seed {seed}",
        features=experiment.recipe.reweight.features,
        reweight=experiment.recipe.reweight,
        meta=meta,
    )
    return _measured(experiment, name, seed, [run], scored)


def sama_na(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The same with ∂u/∂g taken as the identity."""
    return sama(experiment, name, seed, method="sama-na")


def no_meta_steps(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The same but that λ stays at its start: clean share, beliefs and label transition alone."""
    return sama(experiment, name, seed, **NO_META_STEPS)


def sama_then_clean(experiment: Experiment, name: str, seed: int) -> MethodRun:
    """The first half of the steps by sama, the second on the clean set."""
    half = max(1, experiment.steps // 2)
    one, scored = fit_sama(
        experiment,
        seed,
        f"{name}, first half, seed {seed}",
        features=experiment.recipe.reweight.features,
        reweight=experiment.recipe.reweight,
        steps=half,
    )
    two = experiment.fit_plainly(
        experiment.clean,
        seed,
        f"{name}, second half, seed {seed}",
        model=one.model,
        steps=max(1, experiment.steps - half),
    )
    return _measured(experiment, name, seed, [one, two], scored)


def summary_of(experiment: Experiment, scored: Sequence[Scored]) -> Summary:
    """Means over the runs; rows that the clean set has too are not asked whether they are wrong."""
    splits = experiment.splits
    return summarize(scored, splits.train, splits.clean_twins >= 0)


def _measured(
    experiment: Experiment, name: str, seed: int, runs: Sequence[Fit], scored: Scored
) -> MethodRun:
    evaluation = experiment.evaluate(runs[-1].model)
    noise = summary_of(experiment, [scored]).noise
    return measured(name, seed, runs, evaluation, noise=noise, scored=scored)


def fit_sama(
    experiment: Experiment,
    seed: int,
    description: str,
    *,
    features: Sequence[Feature],
    reweight: Reweight | None = None,
    meta: Mapping[str, Any] | None = None,
    rows: np.ndarray | None = None,
    steps: int | None = None,
    observers: Sequence[Observer] = (),
) -> tuple[Fit, Scored]:
    """Bilevel training on the training split; without a meta split it is its own meta data.

    reweight: corrected labels and clean rows at the base level as it says; None: neither.
    meta: in place of the recipe's values of that section.
    rows: of the training split, to train on and, without a meta split, to be the meta data; None:
        all. The others are scored by the final weights' network.
    steps: optimiser steps; None: as many as any other run takes.
    observers: look on at the base level (clean rows that share its loss are not shown), see `fit`.

    Raises:
        SamaError: a feature needs what the data or the model do not have.
    """
    config = experiment.recipe.meta.model_copy(update=dict(meta or {}))
    steps = experiment.steps if steps is None else steps
    plan = _Plan(experiment, config, seed, features, reweight, rows, steps)
    plan.check()
    started = time.perf_counter()
    model = experiment.new_model(seed)
    beliefs = plan.beliefs()
    facts = plan.facts(beliefs)
    corrector = beliefs.make_corrector() if plan.correction else None
    device, classes = experiment.accelerator.device, len(experiment.splits.classes)
    reweighter = Reweighter(
        plan.evidence,
        classes,
        widths=facts.widths,
        corrector=corrector,
        standardize=config.standardize and not plan.amortised,
        amortised=plan.amortised,
        shares=plan.shares(beliefs) if plan.amortised else None,
    ).to(device)
    several = experiment.accelerator.num_processes > 1
    level = MetaLevel(
        config,
        reweighter,
        batches=plan.meta_batches(),
        history=ExampleHistory(
            len(experiment.train), classes, targets=corrector is not None, device=device
        ),
        facts=facts,
        clean=plan.clean,
        beliefs=beliefs,
        offset=torch.as_tensor(beliefs.offset, device=device),
        parallel=DataParallel(exact=config.synchronize == "direction") if several else None,
        every_row=bool((experiment.splits.train.labels >= 0).all()),
    )
    beforehand = time.perf_counter() - started
    run = experiment.run_loop(
        model, plan.base_batches(), level, seed, description, steps=steps, observers=observers
    )
    level.history.sum_over(experiment.accelerator)
    return replace(run, seconds=run.seconds + beforehand), _score(plan, level, beliefs, run)


def planned(experiment: Experiment, name: str, seed: int) -> list[Planned]:
    """The training of `sama` and of what goes by other values of `meta`."""
    config = experiment.recipe.reweight
    description = f"{name}, seed {seed}"
    return [planned_fit(experiment, seed, description, name, config.features, config)]


def planned_then_clean(experiment: Experiment, name: str, seed: int) -> list[Planned]:
    """The trainings of `sama_then_clean`."""
    config, half = experiment.recipe.reweight, max(1, experiment.steps // 2)
    first, second = f"{name}, first half", f"{name}, second half"
    described = f"{first}, seed {seed}"
    return [
        planned_fit(experiment, seed, described, first, config.features, config, steps=half),
        experiment.planned(f"{second}, seed {seed}", second, steps=max(1, experiment.steps - half)),
    ]


def auto_values(experiment: Experiment) -> list[tuple[str, str, str]]:
    """(key, value, reason) of each `auto` that is settled here, for `sama reweight`."""
    config, recipe = experiment.recipe.reweight, experiment.recipe
    plan = _Plan(
        experiment, recipe.meta, recipe.seed, config.features, config, None, experiment.steps
    )
    found = []
    if recipe.meta.reweighter == "auto":
        value, why = "amortised", "a clean set, labels as given, and a pretrained text model"
        if not plan.amortised:
            value, why = "stepwise", "there is no clean set, or no pretrained text model"
            if plan.correction:
                why = "labels are corrected"
        found.append(("meta.reweighter", value, why))
    if config.prior == "auto":
        if plan.has_prior:
            why = "the model is pretrained on text, and labels are learnt"
        elif not plan.correction and "prior" not in config.features:
            why = "labels are not corrected (reweight.correction)"
        else:
            why = "there is no clean set, or no pretrained text model"
        found.append(("reweight.prior", "linear" if plan.has_prior else "none", why))
    if config.class_frequencies == "auto":
        value, why = "clean", "labels are not corrected, or there is no linear prior"
        if plan.has_prior and plan.correction:
            assert experiment.splits.meta is not None
            labels = torch.from_numpy(experiment.splits.meta.labels)
            even = drawn_evenly(labels, len(experiment.splits.classes))
            if recipe.meta.class_balanced:
                why = "meta.class_balanced asks for all classes alike"
            elif even:
                value, why = "training", "the clean set is too even for a random draw"
            else:
                why = "the clean set may have been drawn at random"
        found.append(("reweight.class_frequencies", value, why))
    if recipe.meta.derivative == "auto":
        value, why = "contraction", "weights alone are learnt, beside the base step's own pass"
        if plan.correction:
            half = experiment.accelerator.mixed_precision == "bf16"
            value = "forward" if half else "one-sided"
            why = "labels are corrected, and passes are in " + ("bf16" if half else "fp32")
        found.append(("meta.derivative", value, why))
    return found


def planned_fit(
    experiment: Experiment,
    seed: int,
    description: str,
    name: str,
    features: Sequence[Feature],
    reweight: Reweight | None = None,
    *,
    steps: int | None = None,
) -> Planned:
    """The training of `fit_sama`: what its steps pass, and the scores that follow."""
    meta = experiment.recipe.meta
    plan = _Plan(experiment, meta, seed, features, reweight, None, steps or experiment.steps)
    recipe, train = experiment.recipe, len(experiment.train)
    training = recipe.training
    base = float(training.rows)
    averaged = plan.correction or needs_averaged_model(features)
    if averaged:
        base += FORWARD * training.rows
    base *= training.accumulation
    if plan.clean is not None:
        base += clean_rows(experiment)
    # The clean batch forward and back, and the base batch once more along its direction.
    look = (meta.batch_size + FORWARD * training.rows) / meta.every
    until = 1.0 if plan.clean is None else plan.clean.until
    scores = FORWARD * train * (2 + plan.has_prior)
    return experiment.planned(
        description,
        name,
        steps=steps,
        rows=(
            (warmup(meta, slopes=plan.amortised) * until, base),
            (until, base + look),
            (1.0, base),
        ),
        after=scores,
    )


@dataclass
class _Plan:
    """What a run is made of: which rows are at which level, and what is known beforehand."""

    experiment: Experiment
    config: Meta
    seed: int
    features: Sequence[Feature]
    reweight: Reweight | None
    rows: np.ndarray | None
    steps: int
    noisy: np.ndarray | None = field(init=False)  # of them those of the base level; None: all

    def __post_init__(self) -> None:
        clean = self.experiment.meta
        nothing = np.empty(0, np.int64)
        self.all_clean = nothing if clean is None else np.arange(len(clean))
        # Clean rows of the base and of the meta level, while the reweighter learns.
        self.base_rows, self.held_out = nothing, self.all_clean
        unknown = self.experiment.splits.noisy_rows
        self.noisy = unknown if self.rows is None else self.rows
        if unknown is not None and self.rows is not None:
            self.noisy = np.intersect1d(self.rows, unknown, assume_unique=True)
        if self.share > 0:
            assert clean is not None
            self.base_rows, self.held_out = halves(
                clean.labels, self.seed, at_most=HELD_OUT_PER_CLASS
            )

    def check(self) -> None:
        """Raises SamaError where a feature or setting needs what data or model do not have."""
        splits = self.experiment.splits
        if self.noisy is not None and not (splits.train.labels[self.noisy] >= 0).any():
            raise SamaError(
                f"every labelled row of {splits.train.origin} stands in the clean set too "
                f"({splits.meta.origin if splits.meta else ''}), so there is none to learn about; "
                "give training rows that the clean set does not have"
            )
        if "votes" in self.features and self.experiment.splits.train.votes is None:
            raise SamaError(
                "the feature 'votes' takes labelling functions' votes, which only data in WRENCH's "
                "format have (data.source=wrench); take it out of the features"
            )
        if "prior" in self.features and not self.has_prior:
            raise SamaError(
                "the feature 'prior' takes a belief fitted on a clean set and a pretrained text "
                "model; take it out of the features, or give data.meta and reweight.prior=linear"
            )
        asked = self.reweight is not None and self.reweight.class_frequencies == "training"
        if asked and not self.has_prior:
            raise SamaError(
                "reweight.class_frequencies=training takes a belief fitted on a clean set and a "
                "pretrained text model; leave it at auto, or give data.meta, reweight.prior=linear "
                "and reweight.correction=true"
            )

    @property
    def correction(self) -> bool:
        return self.reweight is not None and self.reweight.correction

    @property
    def has_prior(self) -> bool:
        """Whether there is a linear belief on the pretrained representation."""
        recipe = self.experiment.recipe
        if self.reweight is None or self.experiment.meta is None:
            return False
        if not self.correction and "prior" not in self.features:
            return False
        if self.reweight.prior != "auto":
            return self.reweight.prior == "linear"
        return recipe.task == "text-classification" and is_pretrained(recipe.model)

    @property
    def share(self) -> float:
        """Of clean rows in the base level's loss."""
        if self.reweight is None or self.experiment.meta is None:
            return 0.0
        return self.reweight.clean_share

    @property
    def clean(self) -> CleanRows | None:
        return None if self.share == 0 else CleanRows(self.share, LEARN_UNTIL)

    # what weights are made of

    @property
    def amortised(self) -> bool:
        """Whether weights are fitted to slopes."""
        if self.config.reweighter != "auto":
            return self.config.reweighter == "amortised"
        # Where it is measured (docs/results/slopes.md). Without a clean set slopes of hard rows,
        # right or wrong, are the same.
        reweights = self.reweight is not None and self.experiment.meta is not None
        return reweights and not self.correction and self._has_representations

    @property
    def evidence(self) -> list[Feature]:
        """The features of a row, what tells most first: many classes leave room for the first."""
        if not self.amortised:
            return list(self.features)
        asked = [name for name in self.features if name != "label"]
        names: list[Feature] = ["loss", "margin", *asked]
        if "representation" not in asked and self._has_representations:
            names.append("representation")
        return list(dict.fromkeys([*names, "prediction"]))

    @functools.cached_property
    def projection(self) -> Projection | None:
        """Of the representation, where weights fitted to slopes see it."""
        if not self.amortised or "representation" not in self.evidence:
            return None
        table = torch.from_numpy(self.experiment.representations[0])
        projection = Projection.fit(table)
        device = self.experiment.accelerator.device
        return Projection(projection.basis.to(device), projection.offset.to(device))

    @property
    def _has_representations(self) -> bool:
        recipe = self.experiment.recipe
        return recipe.task == "text-classification" and is_pretrained(recipe.model)

    def shares(self, beliefs: Beliefs) -> Tensor | None:
        """Of each given class in the loss (classes,): how frequent the class is expected to be.

        By the clean rows; by what is estimated, or else by the given labels, where the clean rows
        were drawn evenly from classes that are not.
        """
        labels, classes = beliefs.labels, beliefs.labels.classes
        if not len(labels.clean) or self.correction:
            return None
        if self.config.class_balanced:
            return torch.full((classes,), 1 / classes)
        counts = torch.bincount(labels.clean, minlength=classes) + 0.5
        if drawn_evenly(labels.clean, classes):
            found = None
            if self._has_representations:
                features, clean = (torch.from_numpy(x) for x in self.experiment.representations)
                likelihood = labels.likelihood(self.all_clean)
                found = class_frequencies(features, labels.given, clean, labels.clean, likelihood)
            given = torch.bincount(labels.given[labels.given >= 0], minlength=classes)
            counts = given + 0.5 if found is None else found
        return (counts / counts.sum()).float()

    # batches

    @property
    def _base_data(self) -> Any:
        train = self.experiment.train
        return train if self.noisy is None else Subset(train, self.noisy)

    def meta_batches(self) -> Batches:
        """Of held-out clean rows; without a clean set, of the training rows themselves."""
        experiment, config = self.experiment, self.experiment.recipe.meta
        data = self._base_data
        if experiment.meta is not None:
            data = Subset(experiment.meta, self.held_out)
        batches = experiment.endless(
            data,
            config.batch_size,
            experiment.other_seed(self.seed),
            shared=False,
            class_balanced=config.class_balanced,
            crop=False,  # the clean rows as they will be asked about
        )
        return Mapped(batches, lambda batch: to_device(batch, experiment.accelerator.device))

    def base_batches(self) -> Batches:
        """Of the training rows, with clean rows beside them where these have a share."""
        experiment, training = self.experiment, self.experiment.recipe.training
        batches = experiment.endless(self._base_data, training.rows, self.seed)
        if self.clean is None:
            return batches
        learning = self.clean.last_step(self.steps) * training.accumulation
        first, then = (
            experiment.clean_batches(self.seed, rows) if len(rows) else None
            for rows in (self.base_rows, self.all_clean)
        )
        return Beside(batches, "clean", learning, first, then)

    # what is known beforehand

    def beliefs(self) -> Beliefs:
        experiment, labels = self.experiment, known_labels(self.experiment)
        representations = None
        if self.has_prior:
            of_train, of_clean = experiment.representations
            representations = torch.from_numpy(of_train), torch.from_numpy(of_clean)

        def ask(model: nn.Module, rows: np.ndarray) -> Tensor:
            assert experiment.meta is not None
            logits = experiment.predict(model, experiment.meta, "judging by clean rows", rows=rows)
            return torch.from_numpy(logits)

        return Beliefs(
            labels,
            representations,
            base_rows=self.base_rows,
            held_out=self.held_out,
            ask=ask,
            offset=self._offset(labels, representations),
            device=experiment.accelerator.device,
        )

    def _offset(
        self, labels: Labels, representations: tuple[Tensor, Tensor] | None
    ) -> Tensor | float:
        """log of each class's frequency among clean rows over the one to expect (classes,)."""
        if representations is None or not self._expects_training_frequencies(labels):
            return 0.0
        features, clean = representations
        # All clean rows: their frequencies over all tell nothing of any one of them.
        likelihood = labels.likelihood(self.all_clean)
        found = class_frequencies(features, labels.given, clean, labels.clean, likelihood)
        if found is None:
            return 0.0
        drawn = torch.bincount(labels.clean, minlength=labels.classes)
        return (drawn / drawn.sum()).log() - found.log()

    def _expects_training_frequencies(self, labels: Labels) -> bool:
        assert self.reweight is not None
        if self.reweight.class_frequencies != "auto":
            return self.reweight.class_frequencies == "training"
        # A class-balanced meta level is asked for where all classes are to count alike.
        return (
            self.correction
            and not self.experiment.recipe.meta.class_balanced
            and drawn_evenly(labels.clean, labels.classes)
        )

    def facts(self, beliefs: Beliefs) -> Facts:
        """What the features take besides the model's view."""
        experiment, device = self.experiment, self.experiment.accelerator.device
        facts = Facts(prior=beliefs.of_train)
        if "history" in self.features:
            facts.losses = LossHistory(len(experiment.train), device)
        if "votes" in self.features:
            votes = experiment.splits.train.votes
            assert votes is not None  # checked before
            facts.votes = torch.from_numpy(votes).to(device)
        if "representation" in self.evidence:
            table = torch.from_numpy(experiment.representations[0]).to(device)
            if self.projection is None:
                facts.representation = (table - table.mean(0)) / table.std(0).clamp_min(1e-6)
            else:
                facts.representation = self.projection(table)
        return facts


def known_labels(experiment: Experiment) -> Labels:
    """What rows were labelled with, as far as known."""
    splits = experiment.splits
    told, told_of = splits.told_of_clean
    clean = np.empty(0, np.int64) if splits.meta is None else splits.meta.labels
    return Labels(
        given=torch.from_numpy(np.where(splits.clean_twins >= 0, -1, splits.train.labels)),
        clean=torch.from_numpy(clean),
        told=torch.from_numpy(told),
        told_of=torch.from_numpy(told_of),
        classes=len(splits.classes),
    )


def clean_rows(experiment: Experiment) -> int:
    """How many clean rows stand beside the others in a step, of all its batches."""
    recipe = experiment.recipe
    beside = recipe.reweight.clean_batch_size or recipe.training.rows
    return min(beside, len(experiment.clean)) * recipe.training.accumulation


def _score(plan: _Plan, level: MetaLevel, beliefs: Beliefs, run: Fit) -> Scored:
    """Each row's mean weight over the later steps, and the final models' view.

    Of a training row that is a clean one too, in reweighting: weight 0 beside the clean rows, whose
    label it has.
    """
    experiment = plan.experiment
    device = experiment.accelerator.device
    logits = experiment.predict(run.model, experiment.train, "scoring the training set")
    averaged = logits
    if run.averaged is not None:
        averaged = experiment.predict(
            run.averaged, experiment.train, "scoring with the averaged model"
        )
    given = experiment.splits.train.labels
    labelled = given >= 0
    trained = np.ones_like(labelled) if plan.correction else labelled
    twins = experiment.splits.clean_twins
    if plan.reweight is not None:
        trained = trained & (twins < 0)
    known = given if plan.correction else np.where(labelled, given, 0)
    evidence = level.facts.evidence(
        torch.arange(len(given), device=device),
        torch.from_numpy(logits).to(device),
        torch.from_numpy(known).to(device),
        torch.from_numpy(averaged).to(device),
    )
    slope = None
    with torch.no_grad():
        raw, targets = level.reweighter.raw(evidence)
        if level.reweighter.slopes is not None:
            inputs = level.reweighter.inputs(evidence)
            slope = level.reweighter.slopes.predict(inputs, evidence.labels).cpu().numpy()
    weights = raw.double().cpu().numpy()
    # Weights of the training steps have mean 1 in their batch; those of rows that no later step
    # visited are brought to the same scale.
    mean = level.history.mean_weights(otherwise=weights / weights[trained].mean())
    mean[~trained] = 0.0
    mean /= mean[trained].mean()
    loss = evidence.losses.cpu().numpy()
    loss[~labelled] = np.nan
    corrected = None
    if level.history.targets is not None:
        corrected = level.history.mean_targets(otherwise=targets.cpu().numpy())
    mislabelled = None
    if plan.reweight is not None and experiment.splits.meta is not None:
        judge = run.model if run.averaged is None else run.averaged
        mislabelled = beliefs.mislabelled(judge, averaged)
        if beliefs.doubt is not None:
            mislabelled = np.full_like(mislabelled, np.nan)
        checked = np.flatnonzero(twins >= 0)
        true = experiment.splits.meta.labels[twins[checked]]
        mislabelled[checked] = np.where(labelled[checked], given[checked] != true, np.nan)
        if corrected is not None:
            corrected[checked] = np.eye(corrected.shape[1])[true]
    return Scored(
        weight=mean,
        loss=loss,
        uncertainty=evidence.uncertainty.cpu().numpy(),
        probabilities=evidence.logits.softmax(-1).cpu().numpy(),
        targets=corrected,
        mislabelled=mislabelled,
        weight_function=weight_function(level.reweighter, evidence, trained),
        doubt=beliefs.doubt,
        slope=slope,
        rater=Rater.of(level.reweighter, plan.projection),
        value=level.history.in_run_values(),
    )
