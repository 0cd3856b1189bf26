"""One bilevel training run, and what it says of each training row."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from samacli.bilevel.facts import Facts, LossHistory
from samacli.bilevel.frequencies import class_frequencies, drawn_evenly
from samacli.bilevel.history import ExampleHistory
from samacli.bilevel.meta_level import CleanRows, MetaLevel
from samacli.bilevel.mislabelled import Calibration, calibrate
from samacli.bilevel.prior import LinearBelief, Mixture, fit_linear_belief, fit_mixture
from samacli.bilevel.reweighter import Reweighter
from samacli.bilevel.weight_function import WeightFunction, weight_function
from samacli.data import Batches
from samacli.data.batches import Beside, Mapped
from samacli.data.carve import halves
from samacli.errors import SamaError
from samacli.meta import DataParallel, LabelCorrector
from samacli.meta.label_corrector import label_likelihood
from samacli.models import is_pretrained
from samacli.recipe import Reweight
from samacli.recipe.schema import Feature
from samacli.store.tree import Tree
from samacli.training.experiment import Experiment, Subset
from samacli.training.loop import Fit
from samacli.training.objective import to_device
from samacli.training.observation import Observer

# Beliefs at first: the fixed one whole, the model's own, which knows nothing yet, by half.
_START = Mixture(gate=1 / 3, temperature=2 / 3)


@dataclass(frozen=True)
class Scored:
    """What one SAMA run learnt of each row of the training split (n).

    weight: mean 1 over the rows that were trained on, 0 for the others.
    loss: cross-entropy with the given label, nats (nan without one).
    uncertainty: KL(averaged model ‖ model), nats.
    probabilities: (n, classes), the model's.
    targets: (n, classes), corrected labels, where they are learnt.
    mislabelled: probability that the given label is wrong (nan without one), where a clean set
        tells what given labels are worth.
    weight_function: weight against loss, where the loss is a feature.
    """

    weight: np.ndarray
    loss: np.ndarray
    uncertainty: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray | None
    mislabelled: np.ndarray | None
    weight_function: WeightFunction | None = None


def fit_sama(
    experiment: Experiment,
    seed: int,
    description: str,
    *,
    features: Sequence[Feature],
    reweight: Reweight | None = None,
    method: str | None = None,
    rows: np.ndarray | None = None,
    observers: Sequence[Observer] = (),
) -> tuple[Fit, Scored]:
    """Bilevel training on the training split; without a meta split it is its own meta data.

    reweight: corrected labels and clean rows at the base level as it says; None: neither.
    method: in place of the recipe's estimator.
    rows: of the training split, to train on and, without a meta split, to be the meta data; None:
        all. The others are scored by the final weights' network.
    observers: look on at the base level (clean rows that share its loss are not shown), see `fit`.

    Raises:
        SamaError: a feature needs what the data or the model do not have.
    """
    bilevel = _Bilevel(experiment, seed, features, reweight, method, observers, rows)
    bilevel.check()
    return bilevel.run(description)


@dataclass
class _Bilevel:
    experiment: Experiment
    seed: int
    features: Sequence[Feature]
    reweight: Reweight | None
    method: str | None
    observers: Sequence[Observer]
    rows: np.ndarray | None = None
    prior: LinearBelief | None = None
    offset: Tensor | float = 0.0
    calibration: Calibration | None = None
    level: MetaLevel = field(init=False)

    def check(self) -> None:
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

    def run(self, description: str) -> tuple[Fit, Scored]:
        experiment, config = self.experiment, self.experiment.recipe.meta
        if self.method is not None:
            config = config.model_copy(update={"method": self.method})
        started = time.perf_counter()
        model = experiment.new_model(self.seed)
        several = experiment.accelerator.num_processes > 1
        self.offset = self._offset()
        if self.has_prior:
            self.prior = self._fit_prior(self.base_rows)
        facts = self._facts()
        corrector = None
        if self.correction:
            corrector = LabelCorrector(
                self.classes,
                self._likelihood(self.base_rows),
                gate=_START.gate,
                temperature=1.0 if self.prior is None else _START.temperature,
            )
        reweighter = Reweighter(
            self.features,
            self.classes,
            hidden=config.hidden,
            widths=facts.widths,
            corrector=corrector,
            standardize=config.standardize,
        ).to(self.device)
        self.level = MetaLevel(
            config,
            reweighter,
            batches=self._meta_batches(),
            history=ExampleHistory(
                len(experiment.train), self.classes, targets=corrector is not None
            ),
            facts=facts,
            clean=self._clean(),
            offset=torch.as_tensor(self.offset, device=self.device),
            parallel=DataParallel(exact=config.synchronize == "direction") if several else None,
        )
        beforehand = time.perf_counter() - started
        run = experiment.run_loop(
            model,
            self._base_batches(),
            self.level,
            self.seed,
            description,
            observers=self.observers,
        )
        self.level.history.sum_over(experiment.accelerator)
        return replace(run, seconds=run.seconds + beforehand), self._score(run)

    # what the run is made of

    @property
    def correction(self) -> bool:
        return self.reweight is not None and self.reweight.correction

    @property
    def classes(self) -> int:
        return len(self.experiment.splits.classes)

    @property
    def device(self) -> torch.device:
        return self.experiment.accelerator.device

    @property
    def has_prior(self) -> bool:
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

    @functools.cached_property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Clean rows of the base and of the meta level, while the reweighter learns."""
        assert self.experiment.meta is not None
        if self.share == 0:
            return np.empty(0, np.int64), self.all_clean
        assert self.reweight is not None
        at_most = self.reweight.held_out_per_class
        return halves(self.experiment.meta.labels, self.seed, at_most=at_most)

    @property
    def base_rows(self) -> np.ndarray:
        """Clean rows that what the base level is told may depend on while the reweighter learns."""
        return np.empty(0, np.int64) if self.experiment.meta is None else self.halves[0]

    @property
    def all_clean(self) -> np.ndarray:
        assert self.experiment.meta is not None
        return np.arange(len(self.experiment.meta))

    @property
    def _base_data(self) -> Any:
        train = self.experiment.train
        return train if self.rows is None else Subset(train, self.rows)

    def _meta_batches(self) -> Batches:
        experiment, config = self.experiment, self.experiment.recipe.meta
        data = self._base_data
        if experiment.meta is not None:
            data = Subset(experiment.meta, self.halves[1])
        batches = experiment.endless(
            data,
            config.batch_size,
            self._other_seed,
            shared=False,
            class_balanced=config.class_balanced,
            crop=False,  # the clean rows as they will be asked about
        )
        return Mapped(batches, lambda batch: to_device(batch, self.device))

    @property
    def _other_seed(self) -> int:
        # Another order than the base level's, where both draw from the same rows; and one for each
        # process: a clean set may be smaller than their batches together.
        return self.seed + 1_000_003 * (1 + self.experiment.accelerator.process_index)

    def _clean(self) -> CleanRows | None:
        if self.share == 0:
            return None
        assert self.reweight is not None
        return CleanRows(
            self.share, self.reweight.learn_until, self._settle, self._settled, self._resettle
        )

    def _base_batches(self) -> Batches:
        experiment, training = self.experiment, self.experiment.recipe.training
        batches = experiment.endless(self._base_data, training.batch_size, self.seed)
        if self.level.clean is None:
            return batches
        learning = self.level.clean.last_step(experiment.steps) * training.accumulation
        first, then = self._clean_batches(self.base_rows), self._clean_batches(self.all_clean)
        return Beside(batches, "clean", learning, first, then)

    def _clean_batches(self, rows: np.ndarray) -> Batches | None:
        if not len(rows):
            return None
        experiment, config = self.experiment, self.reweight
        assert experiment.meta is not None
        assert config is not None
        return experiment.endless(
            Subset(experiment.meta, rows),
            config.clean_batch_size or experiment.recipe.training.batch_size,
            self._other_seed,
            shared=False,
        )

    # what given labels are worth, and what is believed beforehand

    @property
    def _given_clean(self) -> Tensor:
        """Given labels of the clean rows; −1 where they have none."""
        split = self.experiment.splits.meta
        if split is None:
            return torch.zeros(0, dtype=torch.long)
        if split.given_labels is None:
            return torch.full((len(split),), -1)
        return torch.from_numpy(split.given_labels)

    @property
    def _true_clean(self) -> Tensor:
        split = self.experiment.splits.meta
        return torch.zeros(0, dtype=torch.long) if split is None else torch.from_numpy(split.labels)

    def _likelihood(self, rows: np.ndarray) -> Tensor:
        """log P(given | true) from the clean `rows` (given, true)."""
        given = self.experiment.splits.train.labels
        counts = np.bincount(given[given >= 0], minlength=self.classes)
        marginal = torch.from_numpy(counts / max(counts.sum(), 1))
        return label_likelihood(self._given_clean[rows], self._true_clean[rows], marginal)

    def _fit_prior(self, rows: np.ndarray) -> LinearBelief:
        features, clean = (torch.from_numpy(x) for x in self.experiment.representations)
        given = torch.from_numpy(self.experiment.splits.train.labels)
        return fit_linear_belief(
            features,
            given,
            clean[rows],
            self._true_clean[rows],
            self._likelihood(rows),
            self.offset,
        )

    def _offset(self) -> Tensor | float:
        """log of each class's frequency among clean rows over the one to expect (classes,)."""
        if not self._expects_training_frequencies:
            return 0.0
        features, clean = (torch.from_numpy(x) for x in self.experiment.representations)
        given = torch.from_numpy(self.experiment.splits.train.labels)
        # All clean rows: their frequencies over all tell nothing of any one of them.
        likelihood = self._likelihood(self.all_clean)
        found = class_frequencies(features, given, clean, self._true_clean, likelihood)
        if found is None:
            return 0.0
        drawn = torch.bincount(self._true_clean, minlength=self.classes)
        return (drawn / drawn.sum()).log() - found.log()

    @property
    def _expects_training_frequencies(self) -> bool:
        if self.reweight is None or not self.has_prior:
            return False
        if self.reweight.class_frequencies != "auto":
            return self.reweight.class_frequencies == "training"
        # A class-balanced meta level is asked for where all classes are to count alike.
        return (
            self.correction
            and not self.experiment.recipe.meta.class_balanced
            and drawn_evenly(self._true_clean, self.classes)
        )

    def _facts(self) -> Facts:
        experiment = self.experiment
        facts = Facts(prior=self._prior_of_train())
        if "history" in self.features:
            facts.losses = LossHistory(len(experiment.train), self.device)
        if "votes" in self.features:
            votes = experiment.splits.train.votes
            assert votes is not None  # checked before
            facts.votes = torch.from_numpy(votes).to(self.device)
        if "representation" in self.features:
            table = torch.from_numpy(experiment.representations[0]).to(self.device)
            facts.representation = (table - table.mean(0)) / table.std(0).clamp_min(1e-6)
        return facts

    def _prior_of_train(self) -> Tensor | None:
        if self.prior is None:
            return None
        return self.prior(torch.from_numpy(self.experiment.representations[0])).to(self.device)

    def _settle(self, averaged: nn.Module) -> None:
        """λ has learnt: judge beliefs by the clean rows that neither of them has seen.

        From then on both may see all.
        """
        held_out = self.halves[1]
        logits = self._predict_clean(getattr(averaged, "module", averaged), held_out)
        corrector = self.level.reweighter.corrector
        mixture = Mixture(_START.gate, temperature=1.0)
        if corrector is not None and self.prior is not None:
            # It is measured in the middle of the run: from here on the model sees more clean rows
            # and its rate falls, while the fixed belief stays what it is.
            fitted = fit_mixture(
                logits.log_softmax(-1),
                self._prior_of_clean(held_out, self.prior),
                self._true_clean[held_out],
                _START,
                self.offset,
            )
            mixture = fitted.trusting_the_model()
            corrector.start_from(corrector.start, mixture.gate, mixture.temperature)
        self.calibration = self._calibrate(logits, held_out)
        if self.prior is not None:
            self.prior = self._fit_prior(self.all_clean)
            self.level.facts.prior = self._prior_of_train()
        if corrector is not None:
            everything = self._likelihood(self.all_clean)
            corrector.start_from(everything, mixture.gate, mixture.temperature)

    def _settled(self) -> Tree:
        """What `_settle` left behind besides the reweighter's state; None before it."""
        if self.calibration is None:
            return None
        prior = self.prior
        return {
            "calibration": [self.calibration.slope, self.calibration.offset],
            "prior": None if prior is None else [prior.mean, prior.deviation, prior.weight],
            "of_train": self.level.facts.prior,
        }

    def _resettle(self, state: Tree) -> None:
        self.calibration = Calibration(*state["calibration"])
        if state["prior"] is not None:
            self.prior = LinearBelief(*state["prior"])
            self.level.facts.prior = state["of_train"].to(self.device)

    def _prior_of_clean(self, rows: np.ndarray, prior: LinearBelief) -> Tensor:
        return prior(torch.from_numpy(self.experiment.representations[1][rows]))

    def _predict_clean(self, model: nn.Module, rows: np.ndarray) -> Tensor:
        """Logits (m, classes) of clean `rows`."""
        experiment = self.experiment
        assert experiment.meta is not None
        return torch.from_numpy(
            experiment.predict(model, experiment.meta, "judging by clean rows", rows=rows)
        )

    # what it says of each row

    def _calibrate(self, logits: Tensor, rows: np.ndarray) -> Calibration:
        """By clean `rows`, where they carry given labels.

        logits: theirs (m, classes), of a model that was not trained on them.
        """
        given, true = self._given_clean[rows], self._true_clean[rows]
        known = given >= 0
        prior = None
        if self.prior is not None:
            prior = self._prior_of_clean(rows[known.numpy()], self.prior)
        raw = self._wrong(logits[known], given[known], prior)
        return calibrate(raw, (given != true)[known].numpy())

    @torch.no_grad()
    def _wrong(self, averaged: Tensor, given: Tensor, prior: Tensor | None) -> np.ndarray:
        """1 − q(given label), not calibrated, from the averaged model's logits (n, classes)."""
        corrector = self.level.reweighter.corrector
        if corrector is None:
            corrector = LabelCorrector(self.classes, self._likelihood(self.base_rows))
        device = corrector.start.device
        belief = averaged.log_softmax(-1).to(device)
        prior = None if prior is None else prior.to(device)
        soft = corrector(given.to(device), belief, prior)
        known = given.clamp_min(0)[:, None].to(device)
        return 1 - soft.gather(-1, known)[:, 0].double().cpu().numpy()

    def _score(self, run: Fit) -> Scored:
        """Each row's mean weight over the later steps, and the final models' view."""
        experiment, level = self.experiment, self.level
        logits = experiment.predict(run.model, experiment.train, "scoring the training set")
        averaged = logits
        if run.averaged is not None:
            averaged = experiment.predict(
                run.averaged, experiment.train, "scoring with the averaged model"
            )
        given = experiment.splits.train.labels
        labelled = given >= 0
        trained = np.ones_like(labelled) if self.correction else labelled
        known = given if self.correction else np.where(labelled, given, 0)
        evidence = level.facts.evidence(
            torch.arange(len(given), device=self.device),
            torch.from_numpy(logits).to(self.device),
            torch.from_numpy(known).to(self.device),
            torch.from_numpy(averaged).to(self.device),
        )
        with torch.no_grad():
            raw, targets = level.reweighter.raw(evidence)
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
        return Scored(
            weight=mean,
            loss=loss,
            uncertainty=evidence.uncertainty.cpu().numpy(),
            probabilities=evidence.logits.softmax(-1).cpu().numpy(),
            targets=corrected,
            mislabelled=self._mislabelled(run, averaged),
            weight_function=weight_function(level.reweighter, evidence, trained),
        )

    def _mislabelled(self, run: Fit, averaged: np.ndarray) -> np.ndarray | None:
        if self.reweight is None or self.experiment.meta is None:
            return None
        if self.calibration is None:
            model = run.model if run.averaged is None else run.averaged
            rows = self.all_clean
            self.calibration = self._calibrate(self._predict_clean(model, rows), rows)
        given = self.experiment.splits.train.labels
        raw = self._wrong(
            torch.from_numpy(averaged), torch.from_numpy(given), self.level.facts.prior
        )
        return np.where(given >= 0, self.calibration(raw), np.nan)
