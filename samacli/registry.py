"""What a recipe can name, a line each: the one list that checks, helps and comparisons go by.

Where the code is, is written "module:name" and imported by `load` when it is used, so that this
file costs nothing and rooms above it need not be imported by those below.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Method:
    """A way of training on noisy labels; see `samacli.methods.run_method`.

    where: a function of a prepared experiment, the method's name and a seed.
    uses_clean: whether it sees the clean set.
    check: what raises SamaError where an experiment lacks what the method needs; None: nothing
        special is needed.
    reads: what it goes by in a recipe's sections `meta` and `reweight`, by dotted key.
    steps: whether it trains the model, for as long as a recipe says.
    planned: its trainings (`samacli.progress.Planned`), a function of the same three; None: where
        it takes `steps` a plain one, called "NAME, seed SEED".
    """

    where: str
    description: str
    uses_clean: bool = False
    check: str | None = None
    reads: tuple[str, ...] = ()
    steps: bool = True
    planned: str | None = None


_LEARNT = ("meta", "reweight")
_SHARE = ("reweight.clean_share", "reweight.clean_batch_size")


METHODS: dict[str, Method] = {
    "noisy": Method("samacli.methods.trained:noisy", "training on the noisy rows as they are"),
    "clean": Method(
        "samacli.methods.trained:clean", "training on the clean set alone", uses_clean=True
    ),
    "mixed": Method(
        "samacli.methods.trained:mixed",
        "training on noisy and clean rows, as many clean ones a step and with the same share of "
        "the loss as sama",
        uses_clean=True,
        reads=_SHARE,
        planned="samacli.methods.trained:planned_beside",
    ),
    "forward-correction": Method(
        "samacli.methods.trained:forward_correction",
        "as mixed, given labels through the transition that sama starts from (Patrini et al. 2017)",
        uses_clean=True,
        reads=_SHARE,
        planned="samacli.methods.trained:planned_beside",
    ),
    "clean-then-noisy": Method(
        "samacli.methods.trained:clean_then_noisy",
        "half of the steps on the clean set, then half on the noisy rows",
        uses_clean=True,
        planned="samacli.methods.trained:planned_halves",
    ),
    "noisy-then-clean": Method(
        "samacli.methods.trained:noisy_then_clean",
        "half of the steps on the noisy rows, then half on the clean set",
        uses_clean=True,
        planned="samacli.methods.trained:planned_halves",
    ),
    "early-stopping": Method(
        "samacli.methods.trained:early_stopping",
        "noisy rows; the best of ten states by accuracy on the clean set",
        uses_clean=True,
    ),
    "loss-truncation": Method(
        "samacli.methods.trained:loss_truncation",
        "noisy rows without the highest losses of each batch",
    ),
    "elr": Method("samacli.methods.trained:elr", "Early-Learning Regularization on the noisy rows"),
    "confident-learning": Method(
        "samacli.methods.confident_learning:confident_learning",
        "noisy rows without those that cleanlab finds mislabelled; a run a fold more",
        check="samacli.methods.confident_learning:check",
        planned="samacli.methods.confident_learning:planned",
    ),
    "linear-probe": Method(
        "samacli.methods.probe:clean",
        "logistic regression on the clean set's states in the pretrained model, of the layer that "
        "sama's belief takes",
        uses_clean=True,
        check="samacli.methods.probe:check_clean",
        steps=False,
    ),
    "linear-probe-noisy": Method(
        "samacli.methods.probe:noisy",
        "logistic regression on the noisy rows' states in the pretrained model, of the same layer",
        check="samacli.methods.probe:check_noisy",
        steps=False,
    ),
    "sama-na": Method(
        "samacli.methods.sama:sama_na",
        "sama without algorithmic adaptation",
        uses_clean=True,
        reads=_LEARNT,
        planned="samacli.methods.sama:planned",
    ),
    "no-meta-steps": Method(
        "samacli.methods.sama:no_meta_steps",
        "sama without its meta steps: the same clean share, beliefs and label transition",
        uses_clean=True,
        reads=_LEARNT,
        planned="samacli.methods.sama:planned",
    ),
    "sama-then-clean": Method(
        "samacli.methods.sama:sama_then_clean",
        "half of the steps by sama, then half on the clean set",
        uses_clean=True,
        reads=_LEARNT,
        planned="samacli.methods.sama:planned_then_clean",
    ),
    "sama": Method(
        "samacli.methods.sama:sama",
        "weights learnt from the clean set by SAMA",
        uses_clean=True,
        reads=_LEARNT,
        planned="samacli.methods.sama:planned",
    ),
    "export": Method(
        "samacli.methods.export:export",
        "training afresh on what sama exports, which `sama train DIR/dataset` repeats",
        uses_clean=True,
        reads=_LEARNT,
        planned="samacli.methods.trained:planned_beside",
    ),
}
# What is made of the rows, as against what it is compared with.
OURS = ("sama", "export")


@dataclass(frozen=True)
class Score:
    """A score of training rows, by which pruning keeps the highest.

    where: a `samacli.pruning.scores.Score`. description: which rows it keeps.
    commands: which of "prune" (what looks on at a training run) and "score" (what one trained model
        says of a row; for a `WindowScore`) offer it.
    select: a function of scores, count and seed that draws the rows; None: the highest are kept.
    """

    where: str
    description: str
    commands: tuple[str, ...] = ("prune",)
    select: str | None = None


_BOTH = ("prune", "score")

SCORES: dict[str, Score] = {
    "random": Score("samacli.pruning.scores:Random", "at random", commands=()),
    "el2n": Score(
        "samacli.pruning.scores:EL2N",
        "the hardest by EL2N, the norm of the error early in training (Paul et al. 2021)",
        _BOTH,
    ),
    "grand": Score(
        "samacli.pruning.scores:GraNd",
        "the largest gradients of the last layer early in training (GraNd, Paul et al. 2021)",
        _BOTH,
    ),
    "forgetting": Score(
        "samacli.pruning.scores:Forgetting",
        "those forgotten most often (Toneva et al. 2019)",
    ),
    "margin": Score(
        "samacli.pruning.scores:Margin",
        "the smallest margins of the trained model (Coleman et al. 2020)",
        _BOTH,
    ),
    "entropy": Score(
        "samacli.pruning.scores:Entropy",
        "the highest entropy of the trained model's prediction (Coleman et al. 2020)",
        _BOTH,
    ),
    "least_confidence": Score(
        "samacli.pruning.scores:LeastConfidence",
        "the least confident predictions (Coleman et al. 2020)",
        _BOTH,
    ),
    "aum": Score(
        "samacli.pruning.scores:AUM",
        "the largest area under the margin, the clearest labels (Pleiss et al. 2020)",
    ),
    "prototypes": Score(
        "samacli.pruning.scores:Prototypes",
        "the farthest from k-means prototypes (Sorscher et al. 2022), on the trained model's "
        "features",
    ),
    "ccs": Score(
        "samacli.pruning.scores:CCS",
        "in strata of AUM in each class, the hardest tenth left out (its paper searches that share "
        "for each keep; CCS, Zheng et al. 2023)",
        select="samacli.pruning.selection:keep_covering",
    ),
    "dual": Score(
        "samacli.pruning.scores:DUAL",
        "difficult and wavering early in training (DUAL, Cho et al. 2025)",
    ),
    "loss": Score(
        "samacli.pruning.scores:Loss", "the highest losses of the trained model", ("score",)
    ),
}

# What looks on at a training run: all but what one trained model alone is asked for.
RUN_SCORES: tuple[str, ...] = tuple(
    name for name, score in SCORES.items() if score.commands != ("score",)
)


def scores_of(command: str) -> list[str]:
    """Names of the scores that a command offers."""
    return [name for name, score in SCORES.items() if command in score.commands]


@dataclass(frozen=True)
class Feature:
    """What the meta-weight-net can see of an example.

    where: a function of `samacli.bilevel.features.Evidence`. columns: how many numbers it gives;
    None: the data decide. averaged: whether it calls for the averaged model's predictions.
    """

    where: str
    description: str
    columns: int | None = 1
    averaged: bool = False


FEATURES: dict[str, Feature] = {
    "loss": Feature("samacli.bilevel.features:loss", "its loss"),
    "label": Feature("samacli.bilevel.features:label", "its given label", columns=0),
    "uncertainty": Feature(
        "samacli.bilevel.features:uncertainty",
        "how far the model is from its moving average",
        averaged=True,
    ),
    "entropy": Feature("samacli.bilevel.features:entropy", "entropy of the prediction"),
    "margin": Feature("samacli.bilevel.features:margin", "margin of the given label"),
    "prediction": Feature(
        "samacli.bilevel.features:prediction", "the predicted probabilities", columns=None
    ),
    "history": Feature(
        "samacli.bilevel.features:history", "mean and swing of its earlier losses", columns=2
    ),
    "prior": Feature(
        "samacli.bilevel.features:prior",
        "what a belief fixed beforehand says of its label",
        columns=2,
        averaged=True,
    ),
    "votes": Feature(
        "samacli.bilevel.features:votes", "which labelling functions agree", columns=None
    ),
    "representation": Feature(
        "samacli.bilevel.features:representation",
        "its representation in the pretrained model",
        columns=None,
    ),
}


# Budgets by name, how much of the time of plain fine-tuning reweighting may take: a few values of a
# recipe, by dotted key. They rank below what is said at the same place and above what that place
# starts from: in a recipe file below the file's own keys and above the recipe that it extends, on
# the command line above the file and below KEY=VALUE. They concern reweighting; pruning learns no
# labels, and takes meta.unroll.
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"meta.unroll": 10, "reweight.correction": True, "reweight.clean_batch_size": 8},
    "balanced": {"meta.unroll": 2, "reweight.correction": True},
    "best": {"meta.unroll": 1, "reweight.correction": True},
}


def load(where: str) -> Any:
    """What "module:name" names; imports the module."""
    module, name = where.split(":")
    return getattr(importlib.import_module(module), name)
