"""All scores of the training split from one training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from samacli.bilevel.run import fit_sama
from samacli.pruning.scores import Score, make_scores
from samacli.pruning.scores.prototypes import Prototypes
from samacli.pruning.scores.random import Random
from samacli.training.experiment import Experiment
from samacli.training.last_layer import classifier_features
from samacli.training.objective import Batch

SAMA = "sama"

# K-means finds as many centroids as there are classes: a sample this large tells where they are.
PROTOTYPE_SAMPLE = 20_000


def score_training_set(
    experiment: Experiment, seed: int, names: Sequence[str], *, in_sama_run: bool = False
) -> dict[str, np.ndarray]:
    """Each named score of every row of the training split (n,), float64; highest are kept first.

    `SCORES` has the names; "sama" is the weight learnt by `fit_sama`.

    However many scores are asked for, they all look on at one run. That is a plain one, as their
    papers assume, beside SAMA's own; with `in_sama_run` they look on at SAMA's, which saves the
    plain run, but its losses are weighted: what it learns not to fit stays wrong, so the scores are
    not those of the papers. To look on at another run, give it `make_rivals` as its `observers` and
    ask for `results` after it.

    Raises:
        SamaError: no score has such a name, or a score needs what the model does not have.
    """
    rivals = make_rivals(experiment, seed, [name for name in names if name != SAMA])
    found: dict[str, np.ndarray] = {}
    run = None
    if SAMA in names or in_sama_run:
        run, scored = fit_sama(
            experiment,
            seed,
            f"sama scores, seed {seed}",
            features=experiment.recipe.prune.features,
            observers=list(rivals.values()) if in_sama_run else (),
        )
        found[SAMA] = scored.weight.astype(np.float64)
    if not in_sama_run and any(not isinstance(score, Random) for score in rivals.values()):
        run = experiment.fit_plainly(
            experiment.train, seed, f"scores, seed {seed}", observers=list(rivals.values())
        )
    found |= results(experiment, rivals, None if run is None else run.model)
    return {name: found[name] for name in names}


def make_rivals(experiment: Experiment, seed: int, names: Sequence[str]) -> dict[str, Score]:
    """`make_scores` for an experiment's training split and device."""
    return make_scores(
        names,
        len(experiment.train),
        len(experiment.splits.classes),
        device=experiment.accelerator.device,
        seed=seed,
    )


def results(
    experiment: Experiment, scores: Mapping[str, Score], model: nn.Module | None
) -> dict[str, np.ndarray]:
    """What the scores say (n,) after their run, whose trained `model` the prototypes take.

    Raises:
        SamaError: the model gives no features, see `classifier_features`.
    """
    for score in scores.values():
        if isinstance(score, Prototypes):
            assert model is not None  # trained by the run that the scores looked on at
            _measure(experiment, score, model)
    return {name: score.result() for name, score in scores.items()}


def _measure(experiment: Experiment, prototypes: Prototypes, model: nn.Module) -> None:
    """One pass over a sample for the centroids, one over all rows for the distances.

    So memory is bounded by the sample, not by the split. Where the sample is all, one pass does.
    """
    rows = np.arange(len(experiment.train))
    sample = rows
    if len(rows) > PROTOTYPE_SAMPLE:
        sample = np.random.default_rng(0).choice(rows, PROTOTYPE_SAMPLE, replace=False)

    def distances(model: nn.Module, batch: Batch) -> Tensor:
        return prototypes.distances(classifier_features(model, batch))[:, None]

    features = experiment.predict(
        model, experiment.train, "features for prototypes", rows=sample, output=classifier_features
    )
    prototypes.fit(features)
    if sample is rows:
        found = prototypes.distances(torch.from_numpy(features)).numpy()
    else:
        found = experiment.predict(
            model, experiment.train, "distances to prototypes", output=distances
        )[:, 0]
    prototypes.take(rows, found)
