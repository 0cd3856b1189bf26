"""What is believed of each row's label besides what the model in training makes of it.

Three things, each fitted on clean rows: what a given label is worth (`label_likelihood`), what a
linear model on the pretrained representation says (`LinearBelief`), and how probable it is, all
opinions weighed, that a given label is wrong. The last is a score: its scale is put right by clean
rows in the middle of the run (`calibrate`), while training rows are asked about at the end by a
model that has seen them. `samacli.methods.calibrated` makes probabilities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from samacli.bilevel.calibration import Calibration, calibrate
from samacli.bilevel.doubt import doubt_about
from samacli.bilevel.prior import LinearBelief, Mixture, fit_linear_belief, fit_mixture
from samacli.meta import LabelCorrector
from samacli.meta.label_corrector import label_likelihood
from samacli.store.tree import Tree

# Beliefs at first: the fixed one whole, the model's own, which knows nothing yet, by half.
START = Mixture(gate=1 / 3, temperature=2 / 3)


@dataclass(frozen=True)
class Labels:
    """Labels of the training rows (n) and of the clean rows (m), of c classes; −1 for none.

    given: (n,), of the training rows that are not known by clean ones. clean: (m,), true.
    told: (p,), what clean rows were labelled with, as far as that is known; told_of: (p,), the row
    of each. A row of which training data hold copies may have been labelled in several ways.
    """

    given: Tensor
    clean: Tensor
    told: Tensor
    told_of: Tensor
    classes: int

    def likelihood(self, rows: np.ndarray) -> Tensor:
        """log P(given | true) from the clean `rows`, (given, true)."""
        counts = torch.bincount(self.given[self.given >= 0], minlength=self.classes).double()
        marginal = counts / counts.sum().clamp_min(1)
        told = self.told_about(rows)
        return label_likelihood(self.told[told], self.clean[self.told_of[told]], marginal)

    def told_about(self, rows: np.ndarray) -> Tensor:
        """Numbers of the labels that clean `rows` were given, (k,)."""
        return torch.isin(self.told_of, torch.from_numpy(rows)).nonzero()[:, 0]


class Beliefs:
    """The beliefs of one run; first from the clean rows of the base level, then from all.

    Args:
        labels: see `Labels`.
        representations: the pretrained model's, (n, f) of training and (m, f) of clean rows; None:
            without a linear belief.
        base_rows: clean rows that what the base level is told may depend on while λ learns.
        held_out: the others, which judge what was learnt.
        ask: logits (k, classes) that a model gives clean rows, by their numbers (k,).
        offset: of clean rows' logits; see `clean_loss`.
        device: where training is.
    """

    def __init__(
        self,
        labels: Labels,
        representations: tuple[Tensor, Tensor] | None,
        *,
        base_rows: np.ndarray,
        held_out: np.ndarray,
        ask: Callable[[nn.Module, np.ndarray], Tensor],
        offset: Tensor | float,
        device: torch.device,
    ) -> None:
        self.labels, self.representations = labels, representations
        self.base_rows, self.held_out = base_rows, held_out
        self.ask, self.offset, self.device = ask, offset, device
        self.linear: LinearBelief | None = None
        self.of_train: Tensor | None = None
        self.calibration: Calibration | None = None
        # Why nothing is known of which labels are wrong, where clean rows say so.
        self.doubt: str | None = None
        self.corrector: LabelCorrector | None = None
        self._fit_linear(base_rows)

    def make_corrector(self) -> LabelCorrector:
        """What corrects labels by these beliefs, which from now on keep it up to date."""
        self.corrector = LabelCorrector(
            self.labels.classes,
            self.labels.likelihood(self.base_rows),
            gate=START.gate,
            temperature=1.0 if self.linear is None else START.temperature,
        )
        return self.corrector

    def _fit_linear(self, rows: np.ndarray) -> None:
        """The linear belief from clean `rows`, and what it says of the training rows."""
        if self.representations is None:
            return
        features, clean = self.representations
        self.linear = fit_linear_belief(
            features,
            self.labels.given,
            clean[rows],
            self.labels.clean[rows],
            self.labels.likelihood(rows),
            self.offset,
        )
        self.of_train = self.linear(features).to(self.device)

    def _of_clean(self, rows: np.ndarray) -> Tensor | None:
        """What the linear belief says of clean `rows` (k, classes)."""
        if self.linear is None or self.representations is None:
            return None
        return self.linear(self.representations[1][rows])

    def settle(self, averaged: nn.Module) -> None:
        """λ has learnt: judge beliefs by the clean rows that neither of them has seen.

        From then on both may see all.
        """
        logits = self.ask(averaged, self.held_out)
        mixture = Mixture(START.gate, temperature=1.0)
        fixed = self._of_clean(self.held_out)
        if self.corrector is not None and fixed is not None:
            # It is measured in the middle of the run: from here on the model sees more clean rows
            # and its rate falls, while the fixed belief stays what it is.
            fitted = fit_mixture(
                logits.log_softmax(-1), fixed, self.labels.clean[self.held_out], START, self.offset
            )
            mixture = fitted.trusting_the_model()
            self.corrector.start_from(self.corrector.start, mixture.gate, mixture.temperature)
        self._calibrate(logits, self.held_out)
        everything = np.arange(len(self.labels.clean))
        self._fit_linear(everything)
        if self.corrector is not None:
            likelihood = self.labels.likelihood(everything)
            self.corrector.start_from(likelihood, mixture.gate, mixture.temperature)

    def _calibrate(self, logits: Tensor, rows: np.ndarray) -> None:
        """By the labels that clean `rows`, ascending, were given.

        logits: theirs (k, classes), of a model that was not trained on them.
        """
        labels = self.labels
        told = labels.told_about(rows)
        given, of = labels.told[told], labels.told_of[told]
        asked = logits[np.searchsorted(rows, of.numpy())]
        raw = self._wrong(asked, given, self._of_clean(of.numpy()))
        wrong = (given != labels.clean[of]).numpy()
        self.calibration = calibrate(raw, wrong)
        believed = self._without_given(logits, self._of_clean(rows))
        self.doubt = doubt_about(believed, labels.clean[rows].numpy(), raw, wrong)

    def mislabelled(self, model: nn.Module, averaged_logits: np.ndarray) -> np.ndarray:
        """Score (n,) in [0, 1] for each training row's label being wrong; NaN without one.

        model: asked about the clean rows, where nothing has been settled before; averaged_logits:
        the averaged model's (n, classes) of the training rows.
        """
        if self.calibration is None:
            rows = np.arange(len(self.labels.clean))
            self._calibrate(self.ask(model, rows), rows)
        assert self.calibration is not None
        given = self.labels.given
        raw = self._wrong(torch.from_numpy(averaged_logits), given, self.of_train)
        return np.where(given.numpy() >= 0, self.calibration(raw), np.nan)

    def _without_given(self, averaged: Tensor, fixed: Tensor | None) -> np.ndarray:
        """What is believed of rows (k, classes) before their given label is looked at."""
        nothing = torch.full((len(averaged),), -1)
        return self._soft(averaged, nothing, fixed).double().cpu().numpy()

    @torch.no_grad()
    def _wrong(self, averaged: Tensor, given: Tensor, fixed: Tensor | None) -> np.ndarray:
        """1 − q(given label), not calibrated, from the averaged model's logits (k, classes)."""
        soft = self._soft(averaged, given, fixed)
        known = given.clamp_min(0)[:, None].to(soft.device)
        return 1 - soft.gather(-1, known)[:, 0].double().cpu().numpy()

    @torch.no_grad()
    def _soft(self, averaged: Tensor, given: Tensor, fixed: Tensor | None) -> Tensor:
        """q (k, classes): the averaged model's logits, the fixed belief and the given label."""
        corrector = self.corrector
        if corrector is None:
            corrector = LabelCorrector(self.labels.classes, self.labels.likelihood(self.base_rows))
        device = corrector.start.device
        belief = averaged.log_softmax(-1).to(device)
        fixed = None if fixed is None else fixed.to(device)
        soft: Tensor = corrector(given.to(device), belief, fixed)
        return soft

    def state_dict(self) -> Tree:
        """What settling changes, but for the corrector, which the reweighter's state holds."""
        known, linear = self.calibration, self.linear
        return {
            "calibration": None if known is None else [known.slope, known.offset],
            "doubt": self.doubt,
            "linear": None if linear is None else [linear.mean, linear.deviation, linear.weight],
            "of_train": self.of_train,
        }

    def load_state_dict(self, state: Tree) -> None:
        """Go on from what `state_dict` gave."""
        if state["calibration"] is not None:
            self.calibration = Calibration(*state["calibration"])
        self.doubt = state["doubt"]
        if state["linear"] is not None:
            self.linear = LinearBelief(*state["linear"])
            self.of_train = state["of_train"].to(self.device)
