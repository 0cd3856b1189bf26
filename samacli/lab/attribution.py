"""Whether slopes say which rows a model owes its clean loss to, checked by retraining without them.

python -m samacli.lab.attribution --data ../shared/data --output docs/results

The linear datamodelling score (LDS, Park et al. 2023) of an attribution: over retrainings on random
halves of the rows, the rank correlation of the clean loss's true fall with the sum of the scores of
the rows that were in. Each retraining is a line of `attribution.jsonl`, so that a run that was cut
off goes on; `attribution.md` is made of the lines.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from samacli.data import Encoded, Split
from samacli.lab.lines import Row, measured
from samacli.methods.sama import fit_sama
from samacli.pruning.scores import make_scores, results
from samacli.recipe import Recipe, load_recipe
from samacli.training.embed import classifier_features
from samacli.training.experiment import Experiment
from samacli.training.gradients import along, mean_gradient, products
from samacli.training.metrics import noise_detection
from samacli.training.objective import Batch

HALVES, GROUPS = 60, 30
# Bootstrap draws of the retrainings, for the interval of a correlation.
DRAWS, LEVEL = 500, 0.9
LOOKED_ON = ("el2n", "grand", "aum", "forgetting")

NAMES = {
    "value": "slopes summed over the run (`value` in scores.parquet)",
    "value, a tenth": "the same, met at every tenth step only",
    "tracin": "TracIn, whole model: ⟨∇ℓ_i, ∇L_clean⟩ at the end of training",
    "tracin, last layer": "TracIn, last layer alone",
    "loss": "−loss at the end",
    "el2n": "−EL2N",
    "grand": "−GraNd",
    "aum": "AUM",
    "forgetting": "−times forgotten",
    "right": "oracle: 1 where the label is right, else 0",
    "group left out": f"exact: each of {GROUPS} groups left out in turn",
}


def digits() -> Recipe:
    return load_recipe(
        "digits-noise",
        ["training.steps=60", "data.meta_per_class=20", "training.precision=fp32", "repeats=1"],
    )


def trec(folder: Path) -> Recipe:
    return load_recipe(
        "trec",
        [
            f"data.path={folder / 'trec'}",
            "reweight.correction=false",
            "reweight.clean_share=0",
            "reweight.prior=none",
            "meta.unroll=1",
            "training.steps=300",
            "training.precision=fp32",
            "repeats=1",
        ],
    )


# the digits: attributions, and what retraining says


def attributions(experiment: Experiment) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Each attribution of the training rows (n,), the larger the more it should help; and seconds.

    Of one plain run (weights that stay even) on all rows; the clean set is looked at, not trained
    on.
    """
    scores: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    looking = make_scores(experiment, 0, LOOKED_ON)
    plain = experiment.fit_plainly(experiment.train, 0, "plain", observers=list(looking.values()))
    seconds["plain"] = plain.seconds
    model = plain.model.eval()
    for name, values in results(experiment, looking, model).items():
        scores[name] = values if name == "aum" else -values
    for name, unroll in (("value", 1), ("value, a tenth", 10)):
        even = {"learning_rate": 1e-12, "warmup": 0.0, "unroll": unroll, "reweighter": "stepwise"}
        run, scored = fit_sama(experiment, 0, name, features=["loss"], meta=even)
        assert scored.value is not None
        scores[name] = np.nan_to_num(scored.value)
        seconds[name] = run.seconds
    train = experiment.splits.train.labels
    scores["loss"] = -_losses(experiment.predict(model, experiment.train, "losses"), train)
    scores["tracin"], scores["tracin, last layer"] = _tracin(experiment, model)
    true = experiment.splits.train.true_labels
    assert true is not None
    scores["right"] = (train == true).astype(float)
    return scores, seconds


def _tracin(experiment: Experiment, model: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """⟨∇ℓ_i, ∇L_clean⟩ of all parameters, by forward mode, and of the last layer's, written out."""
    params = [p for p in model.parameters() if p.requires_grad]
    meta, train = experiment.splits.meta, experiment.splits.train
    assert meta is not None
    total = mean_gradient(experiment, model, params, experiment.clean)
    tangents, likely = along(experiment, model, params, total, experiment.train, "TracIn")
    whole = products(tangents, likely, train.labels)

    def features(network: nn.Module, batch: Batch) -> Tensor:
        return classifier_features(network, batch)

    def residuals(encoded: Encoded, labels: np.ndarray) -> np.ndarray:
        logits = torch.from_numpy(experiment.predict(model, encoded, "predictions"))
        found: np.ndarray = logits.softmax(-1).numpy()
        found[np.arange(len(labels)), labels] -= 1
        return found

    def states(encoded: Encoded) -> np.ndarray:
        found = experiment.predict(model, encoded, "features", output=features)
        return np.concatenate([found, np.ones((len(found), 1), np.float32)], axis=1)

    of_train = residuals(experiment.train, train.labels)
    of_clean = residuals(experiment.clean, meta.labels)
    gradient = of_clean.T @ states(experiment.clean) / len(meta)
    last = (of_train * (states(experiment.train) @ gradient.T)).sum(-1)
    return whole, last


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    losses: np.ndarray = nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(labels), reduction="none"
    ).numpy()
    return losses


def subset(rows: int, number: int) -> np.ndarray:
    """The number-th random half of the rows, ascending."""
    return np.sort(np.random.default_rng([7, number]).permutation(rows)[: rows // 2])


def groups(rows: int) -> list[np.ndarray]:
    """The rows in GROUPS random parts."""
    return np.array_split(np.random.default_rng(11).permutation(rows), GROUPS)


def retrained(experiment: Experiment, rows: np.ndarray, what: str) -> Row:
    """The mean loss on clean and on test rows, nats, of a model trained on `rows` alone."""
    splits = experiment.splits
    run = experiment.fit_plainly(experiment.train, 0, what, rows=rows)
    found: Row = {"seconds": run.seconds}
    pairs: list[tuple[str, Encoded | None, Split | None]] = [
        ("clean", experiment.meta, splits.meta),
        ("test", experiment.test, splits.test),
    ]
    for name, encoded, split in pairs:
        assert encoded is not None
        assert split is not None
        logits = experiment.predict(run.model, encoded, "losses")
        found[name] = float(_losses(logits, split.labels).mean())
    return found


# TREC: rows that the rater was not fitted on


def rated_halves(experiment: Experiment, seed: int) -> Row:
    """Average precision of finding wrong labels by slope, of the rows that slopes came from and of
    the others."""
    train = experiment.splits.train
    order = np.random.default_rng([13, seed]).permutation(np.flatnonzero(train.labels >= 0))
    own = np.sort(order[: len(order) // 2])
    config = experiment.recipe.reweight
    run, scored = fit_sama(
        experiment, seed, "half", features=config.features, reweight=config, rows=own
    )
    assert scored.slope is not None
    assert train.true_labels is not None
    found: Row = {"seconds": run.seconds}
    for name, rows in (("own", own), ("other", np.sort(order[len(order) // 2 :]))):
        detection = noise_detection(train.labels[rows], train.true_labels[rows], scored.slope[rows])
        assert detection is not None
        found |= {name: detection["average_precision"], f"{name} rate": detection["noise_rate"]}
    return found


# lines and page


def measure(file: Path, data: Path, seconds: float, *, halves: int, seeds: int) -> list[Row]:
    """What is there, and what of the rest there is time for."""

    @functools.cache
    def experiment() -> Experiment:
        return Experiment.prepare(digits(), device="cpu")

    def scores(_: int) -> Row:
        found, took = attributions(experiment())
        return {
            "took": took,
            "scores": {k: [float(f"{x:.6g}") for x in v] for k, v in found.items()},
        }

    def half(number: int) -> Row:
        return retrained(experiment(), subset(len(experiment().train), number), "half")

    def without(number: int) -> Row:
        count = len(experiment().train)
        rest = np.setdiff1d(np.arange(count), groups(count)[number])
        return retrained(experiment(), rest, "without a group")

    def rated(seed: int) -> Row:
        return rated_halves(Experiment.prepare(trec(data), device="cpu"), seed)

    counts: list[tuple[str, int, Callable[[int], Row]]] = [
        ("scores", 1, scores),
        ("half", halves, half),
        ("without", GROUPS if halves else 0, without),
        ("trec halves", seeds if (data / "trec").is_dir() else 0, rated),
    ]
    wanted = ((of, number, made) for of, count, made in counts for number in range(count))
    return measured(file, wanted, seconds)


def scored(rows: Sequence[Row], target: str = "clean") -> dict[str, tuple[float, float, float]]:
    """LDS of each attribution on the halves that there are: (estimate, lower, upper bound)."""
    found = next(row for row in rows if row["of"] == "scores")["scores"]
    table = {name: np.array(values) for name, values in found.items()}
    count = len(next(iter(table.values())))
    left_out = {row["number"]: row[target] for row in rows if row["of"] == "without"}
    if len(left_out) == GROUPS:
        # Without a helpful group the loss is higher; all share what the loss is with all rows.
        exact = np.zeros(count)
        for number, members in enumerate(groups(count)):
            exact[members] = left_out[number] / len(members)
        table["group left out"] = exact - exact.mean()
    halves = [row for row in rows if row["of"] == "half"]
    fall = -np.array([row[target] for row in halves])
    generator = np.random.default_rng(0)
    draws = generator.integers(len(halves), size=(DRAWS, len(halves)))
    told = {}
    for name, values in table.items():
        sums = np.array([values[subset(count, row["number"])].sum() for row in halves])
        estimate = float(spearmanr(sums, fall).statistic)
        again = [spearmanr(sums[draw], fall[draw]).statistic for draw in draws]
        low, high = np.nanquantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        told[name] = (estimate, float(low), float(high))
    return told


def page(rows: Sequence[Row]) -> str:
    """attribution.md."""
    kinds = {of: [row for row in rows if row["of"] == of] for of in ("scores", "half", "without")}
    lines = ["# Who is to blame: slopes against retraining", "", *INTRODUCTION.splitlines(), ""]
    if kinds["scores"] and len(kinds["half"]) > 2:
        clean, test = scored(rows), scored(rows, "test")
        took = kinds["scores"][0]["took"]
        lines += [
            "## Linear datamodelling score, digits",
            "",
            f"{len(kinds['half'])} retrainings on random halves of "
            f"{len(kinds['scores'][0]['scores']['value']):,} images, a fifth of whose labels are "
            f"wrong, one seed (ResNet-8, 60 steps). In brackets {LEVEL:.0%} of bootstrap draws of "
            "the retrainings. Scores were made for the clean rows' loss; the test rows' is told "
            "beside it.",
            "",
            "| attribution | LDS, clean loss | LDS, test loss | time of its run, plain = 1 |",
            "| --- | --- | --- | --- |",
        ]
        for name in sorted(clean, key=lambda name: -clean[name][0]):
            time_of = took.get(name, took["plain"]) / took["plain"]
            if name == "group left out":
                time_of = sum(row["seconds"] for row in kinds["without"]) / took["plain"]
            lines.append(
                f"| {NAMES.get(name, name)} | {_interval(clean[name])} | {_interval(test[name])} "
                f"| {time_of:.2f} |"
            )
        lines += ["", *_judged(clean, took), ""]
    halves = [row for row in rows if row["of"] == "trec halves"]
    if halves:
        lines += [
            "## The rater of one half on the other: TREC",
            "",
            "Weights alone, 603 clean rows, 300 steps, slopes of one random half of the training "
            "rows; average precision of finding the wrong labels by the predicted slope.",
            "",
            "| seed | the half that it was fitted on | the other half | difference |",
            "| --- | --- | --- | --- |",
            *(
                f"| {row['number']} | {row['own']:.3f} (chance {row['own rate']:.3f}) "
                f"| {row['other']:.3f} (chance {row['other rate']:.3f}) "
                f"| {row['other'] - row['own']:+.3f} |"
                for row in halves
            ),
            "",
            _met(all(row["own"] - row["other"] <= 0.02 for row in halves), "within 0.02"),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


INTRODUCTION = """\
An attribution says how much each training row did for the loss on clean rows. It is right if models
that are trained without some rows are as much worse as it says. Made by `make table-attribution`
from the lines of `attribution.jsonl`, one a training."""


def _judged(clean: dict[str, tuple[float, float, float]], took: dict[str, float]) -> list[str]:
    apart = ("value", "value, a tenth", "right")
    others = {name: found for name, found in clean.items() if name not in apart}
    best = max(others, key=lambda name: others[name][0])
    ahead = clean["value"][0] - others[best][0]
    ratio = took["value"] / took["plain"]
    return [
        _met(
            ahead > 0,
            f"slopes have the highest score ({ahead:+.2f} against the next, {NAMES[best]})",
        ),
        _met(ratio <= 1.3, f"at no more than 1.3 times the time of a plain run ({ratio:.2f})"),
    ]


def _met(holds: bool, goal: str) -> str:
    return f"- {goal}: **{'met' if holds else 'not met'}**"


def _interval(found: tuple[float, float, float]) -> str:
    return f"{found[0]:.2f} ({found[1]:.2f} to {found[2]:.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("docs/results"))
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--halves", type=int, default=HALVES)
    parser.add_argument("--seeds", type=int, default=3, help="of TREC's halves")
    parser.add_argument("--render", action="store_true", help="the page alone")
    options = parser.parse_args(arguments)
    seconds = 0.0 if options.render else options.seconds
    rows = measure(
        options.output / "attribution.jsonl",
        options.data,
        seconds,
        halves=options.halves,
        seeds=options.seeds,
    )
    (options.output / "attribution.md").write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
