"""Every way of choosing training rows that is compared, by name, each retrained by itself.

`prune` measures one score at several keeps in one go. A comparison of many asks for smaller
pieces, which can be done one by one: a scoring run, whose arrays serve all selections made of them
(`score_by_sama`, `score_by_rivals`), and one retraining on one selection (`retrain_on`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from samacli.methods.run import MethodRun, measured
from samacli.pruning.scores import make_scores, results
from samacli.pruning.selection import keep_count, keep_counts
from samacli.recipe import Recipe
from samacli.registry import RUN_SCORES, SCORES
from samacli.runs.prune.order import labelled_first, select
from samacli.runs.prune.scoring import score
from samacli.training.experiment import Experiment
from samacli.training.metrics import noise_detection

Arrays = dict[str, np.ndarray]
ScoringRun = tuple[MethodRun, Arrays]

SAMA_SCORES, RIVAL_SCORES = "sama-scores", "rival-scores"
# Parts of `score_by_sama`: what learns the weights, and the plain run that is looked on at.
SAMA_RUN, PLAIN_RUN = "sama", "plain"
TRUST = "trust"  # the array of it that finds wrong labels


@dataclass(frozen=True)
class PruningMethod:
    """One way of choosing rows, or a scoring run.

    scoring: the scoring run that it takes its array from; None: it takes none.
    array: whose rows are kept from the highest value down; of `sama` one a keep.
    sign: −1 where the lowest are kept.
    """

    name: str
    description: str
    uses_clean: bool = False
    scoring: str | None = None
    array: str = ""
    sign: int = 1

    @property
    def prunes(self) -> bool:
        """Whether it chooses rows, so that it asks how many."""
        return self.array != ""


def _by_rivals() -> Iterator[PruningMethod]:
    for name in RUN_SCORES:
        rival, by = SCORES[name], partial(PruningMethod, scoring=RIVAL_SCORES, array=name)
        yield by(name, rival.description)
        if rival.commands and rival.select is None:
            other_end = f"by {name} from the other end: the lowest are kept"
            yield by(f"{name}-lowest", other_end, sign=-1)


PRUNING_METHODS: dict[str, PruningMethod] = {
    method.name: method
    for method in (
        PruningMethod("full", "training on all rows"),
        PruningMethod(
            RIVAL_SCORES,
            f"one plain run that {', '.join(RUN_SCORES)} look on at, all together",
            scoring=RIVAL_SCORES,
        ),
        PruningMethod(
            SAMA_SCORES,
            "all that `sama prune` does before it selects: a plain run that is looked on at, one "
            "on a part of the rows, for the rate of wrong labels, and a SAMA run",
            uses_clean=True,
            scoring=SAMA_SCORES,
        ),
        PruningMethod(
            "sama",
            "as `sama prune` does, by weights learnt by SAMA and trust in labels",
            uses_clean=True,
            scoring=SAMA_SCORES,
            array="sama",
        ),
        *_by_rivals(),
    )
}


def with_seed(experiment: Experiment, seed: int) -> Experiment:
    """The experiment as a run of `sama prune --seed SEED repeats=1` would have it."""
    recipe = experiment.recipe.model_copy(update={"seed": seed, "repeats": 1})
    return replace(experiment, recipe=recipe)


def plain_runs(recipe: Recipe, name: str) -> float:
    """About how many plain training runs' time a method takes; a SAMA run counts as 1.5."""
    method, config = PRUNING_METHODS[name], recipe.prune
    if method.prunes or method.scoring is None:
        return 1.0
    runs = config.score_runs or 1
    if name == RIVAL_SCORES:
        return float(runs)
    orders = 3 * len(config.keep) + 1.5 if config.order == "trial" else 0
    held_out = (config.folds - 1) / config.folds if config.trust == "auto" else 0.0
    plain = 1.0 if "auto" in (config.trust, config.order) else 0.0
    return runs * (plain + held_out + 1.5 + orders)


def score_by_rivals(experiment: Experiment, seed: int) -> ScoringRun:
    """Every rival score of the training rows (n,) by name, from one plain run a score seed."""
    started = time.perf_counter()
    experiment = with_seed(experiment, seed)
    found: list[Arrays] = []
    fits = []
    for score_seed in experiment.recipe.score_seeds:
        rivals = make_scores(experiment, score_seed, RUN_SCORES)
        name, observers = f"scores, seed {score_seed}", list(rivals.values())
        run = experiment.fit_plainly(experiment.train, score_seed, name, observers=observers)
        found.append(results(experiment, rivals, run.model))
        fits.append(run)
    seconds = time.perf_counter() - started  # with the passes that follow a run
    run_of_all = replace(measured(RIVAL_SCORES, seed, fits, None), seconds=seconds)
    return run_of_all, {name: np.mean([one[name] for one in found], axis=0) for name in RUN_SCORES}


def score_by_sama(experiment: Experiment, seed: int) -> ScoringRun:
    """`sama prune`'s own rankings (n,), "sama-0.7" for the keep 0.7, and what its trust says."""
    recipe = experiment.recipe
    ours_alone = recipe.prune.model_copy(update={"scores": [SAMA_RUN]})
    recipe = recipe.model_copy(update={"prune": ours_alone})
    experiment = with_seed(replace(experiment, recipe=recipe), seed)
    found = score(experiment, keep_counts(recipe.prune.keep, len(experiment.train)))
    costs = found.costs.values()
    run = MethodRun(
        name=SAMA_SCORES,
        seed=seed,
        evaluation=None,
        noise=found.summary.noise,
        seconds=sum(cost["seconds"] for cost in costs),
        steps=sum(int(cost["steps"]) for cost in costs),
        samples_per_second=found.scoring.samples_per_second[0],
        peak_memory_bytes=max(int(cost["peak_memory_bytes"]) for cost in costs),
        model=None,
        scored=None,
        parts={part: cost["seconds"] for part, cost in found.costs.items()},
    )
    arrays = {f"sama-{keep}": ranking for keep, ranking in found.rankings["sama"].items()}
    arrays[TRUST] = found.summary.weight if found.right is None else found.right
    return run, arrays


SCORING: dict[str, Callable[[Experiment, int], ScoringRun]] = {
    SAMA_SCORES: score_by_sama,
    RIVAL_SCORES: score_by_rivals,
}


def retrain_on(
    experiment: Experiment, name: str, keep: float | None, seed: int, arrays: Arrays
) -> MethodRun:
    """Train from scratch on what a method keeps, and measure.

    noise: of the method's ranking, whose lowest are the first to go.
    arrays: of the scoring run that it names; keep: None for the full set.

    Raises:
        SamaError: so much or so little can't be kept.
    """
    method, train = PRUNING_METHODS[name], experiment.splits.train
    rows = noise = None
    if method.prunes:
        assert keep is not None
        rows = chosen_rows(with_seed(experiment, seed), method, keep, arrays)
        if train.true_labels is not None:
            suspects = arrays[TRUST] if name == SAMA_RUN else _ranked(method, keep, arrays)
            noise = noise_detection(train.labels, train.true_labels, _finite(suspects))
    at = name if keep is None else f"{name} at {keep:g}"
    fit = experiment.fit_plainly(experiment.train, seed, f"{at}, seed {seed}", rows=rows)
    return measured(name, seed, [fit], experiment.evaluate(fit.model), noise=noise)


def chosen_rows(
    experiment: Experiment, method: PruningMethod, keep: float, arrays: Arrays
) -> np.ndarray:
    """Row numbers in input order, chosen as `prune` chooses by that score."""
    count = keep_count(keep, len(experiment.train))
    labels = experiment.splits.train.labels
    ranked = _ranked(method, keep, arrays)
    if method.array == "random":
        ranked = labelled_first(ranked, labels)
    return select(experiment, ranked, labels, count, method.array)


def _ranked(method: PruningMethod, keep: float, arrays: Arrays) -> np.ndarray:
    """The array (n,) whose highest are kept."""
    name = f"sama-{keep:g}" if method.array == "sama" else method.array
    return method.sign * arrays[name]


def _finite(values: np.ndarray) -> np.ndarray:
    """NaN as the lowest: `noise_detection` ranks finite numbers."""
    known = values[~np.isnan(values)]
    return np.nan_to_num(values, nan=float(known.min()) - 1 if known.size else 0.0)
