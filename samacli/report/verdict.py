"""What came of a run, in sentences: the first thing that a reader wants to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from samacli.errors import counted
from samacli.report.finished import FinishedRun
from samacli.report.numbers import percent, signed
from samacli.report.trainings import Training, beside, in_words, trainings
from samacli.training.spread import with_spread

Tone = Literal["good", "open", "bad"]


@dataclass(frozen=True)
class Verdict:
    """tone: best of all beyond chance, or not told apart from the best, or not the best.

    headline: the accuracies. points: what to make of them.
    """

    tone: Tone
    headline: str
    points: list[str]


def verdict(run: FinishedRun) -> Verdict:
    """Of a run's accuracies and of the labels that it found wrong, in plain words."""
    found = trainings(run.metrics)
    tested = run.rows.get("test", 0)
    # Of pruning, at the exported keep.
    model = next((training for training in found if training.method == "sama"), None)
    if model is None or not model.accuracy:
        headline = "Nothing was measured: there was no test split."
        points = ["Give --test FILE, and the report tells what the result is worth."]
        return Verdict("open", headline, _not_learnt(run) + points + _labels(run))
    export = next((one for one in found if one.method == "export" and one.accuracy), None)
    others = beside(model, found)
    # What leaves the run as data comes first: whoever trains on them gets this.
    among = len(others)
    if export is not None:  # the model is compared with all others too, and with it
        among = 2 * among + 1
    tone, points = _ranked(run, export or model, others, tested, among)
    if export is not None:
        points += _of_the_model(model, export, others, tested, among)
    points += _earned(model, others, tested, among)
    points += _advice(run) + _chance(run, tested) + _labels(run)
    # First what makes the rest worthless.
    points = _not_learnt(run) + points
    return Verdict(tone, _headline(run, model, export, others), points)


def _headline(
    run: FinishedRun, model: Training, export: Training | None, others: Sequence[Training]
) -> str:
    if run.workflow == "prune":
        names = [f"{kept(model.keep)} of the rows, chosen by SAMA", *map(_pruned_name, others)]
        told = [model, *others]
    else:
        told = [one for one in (export, model, *others) if one is not None]
        names = [in_words(one, corrected=run.corrected) for one in told]
    text = "; ".join(
        f"{name}: {with_spread(one.accuracy)}" for name, one in zip(names, told, strict=True)
    )
    end = "."
    if run.workflow == "reweight" and export is None:
        end = "; training afresh on dataset/ was not measured."
    return f"{text[0].upper()}{text[1:]} (accuracy){end}"


def _of_the_model(
    model: Training, export: Training, others: Sequence[Training], tested: int, among: int
) -> list[str]:
    """How the run's own model compares, where the headline is of what was exported."""
    said = "The model in model/ is the run's own, trained while weights were learnt: "
    said += with_spread(model.accuracy)
    lead = model.lead_over(export, tested, among)
    if lead is not None and lead.clear:
        said += f", {lead.text} against training afresh on what it left"
    best = max(others, key=lambda training: training.mean, default=None)
    lead = None if best is None else model.lead_over(best, tested, among)
    if best is not None and lead is not None:
        chance = "" if lead.clear else " (may be chance)"
        said += f", {lead.text} against {best.name}{chance}"
    return [f"{said}."]


def _earned(model: Training, others: Sequence[Training], tested: int, among: int) -> list[str]:
    """What the meta steps did for the model, and what stands around them, by leaving out both."""
    by_name = {one.method: one for one in others if one.accuracy}
    without = by_name.get("no-meta-steps")
    lead = None if without is None else model.lead_over(without, tested, among)
    if without is None or lead is None:
        return []
    said = (
        f"Without its meta steps, all else alike, the model has {with_spread(without.accuracy)}: "
    )
    if lead.clear:
        verb = "earn" if model.mean > without.mean else "cost"
        said += f"they {verb} it {lead.text.lstrip('+−')}"
    else:
        said += f"what they do ({lead.text}) is not told apart from nothing"
    noisy = by_name.get("noisy")
    of_rest = None if noisy is None else without.lead_over(noisy, tested, among)
    if of_rest is not None:
        chance = "" if of_rest.clear else " (may be chance)"
        said += f"; {_AROUND} {of_rest.text} over the data as given{chance}"
    return [f"{said}."]


# What of a run there is without meta steps.
_AROUND = "the clean rows' share, class shares and beliefs"


def _pruned_name(training: Training) -> str:
    if training.method == "full":
        return "all rows"
    if training.method == "random":
        return f"{kept(training.keep)} at random"
    return training.name


def kept(keep: str) -> str:
    """A keep such as 0.7 as 70 %; a count as it is."""
    value = float(keep)
    return percent(value) if value <= 1 else f"{value:,.0f}"


def _ranked(
    run: FinishedRun, ours: Training, others: Sequence[Training], tested: int, among: int
) -> tuple[Tone, list[str]]:
    if not others:
        return "open", ["Nothing was trained beside it, so this says nothing of what it is worth."]
    best = max(others, key=lambda training: training.mean)
    lead = ours.lead_over(best, tested, among)
    name = _pruned_name(best) if run.workflow == "prune" else best.name
    gap = ours.mean - best.mean
    clear = lead is not None and lead.clear
    by = signed(gap) if lead is None else lead.text
    if not clear:
        place = "above" if gap > 0 else "below" if gap < 0 else "level with"
        said = f"It is {place} {name}" if gap == 0 else f"It is {place} {name} by {by.lstrip('+−')}"
        why = "a difference that chance can make" if len(run.seeds) > 1 else "by one seed alone"
        return "open", [f"{said}, the best of the others: {why}, so the two are not told apart."]
    if gap > 0:
        compared = f"the {len(others) + 1} compared" if len(others) > 1 else "the two compared"
        return "good", [f"That is the best of {compared}: {by} against the next, {name}."]
    return "bad", [
        f"It is not the best here: {name} is better by {by.lstrip('−')}. Use that instead."
    ]


def _not_learnt(run: FinishedRun) -> list[str]:
    """That there is nothing to be seen, where that is so, and what to do."""
    return [f"{why[0].upper()}{why[1:]}." for why in run.metrics.get("not_learnt") or []]


def _advice(run: FinishedRun) -> list[str]:
    """What a verified pruning recommends, and what a pruning warns of, in the run's own words."""
    advice = [one.get("why") for one in (run.metrics.get("recommended") or {}).values()]
    advice.append((run.metrics.get("diagnosis") or {}).get("warning"))
    return [sentence for sentence in advice if isinstance(sentence, str)]


def _chance(run: FinishedRun, tested: int) -> list[str]:
    seeds = len(run.seeds)
    rows = counted(tested, "test row")
    if seeds < 2:
        return [f"One seed and {rows}: another seed may give another order; repeats=3 would tell."]
    return [f"Mean ± standard deviation over {seeds} seeds, {rows}; differences seed by seed."]


def _labels(run: FinishedRun) -> list[str]:
    points = []
    labelled = int(run.scores.labelled.sum())
    why = run.metrics.get("no_probability")
    if isinstance(why, str):
        points.append(
            f"Which labels are wrong is not known: {why}. {len(run.suspects):,} of {labelled:,} "
            "labels are disputed by it and count less than average."
        )
    elif run.scores.mislabelled is not None and labelled:
        count = f"{len(run.suspects):,} of {labelled:,} labels"
        count += f" ({percent(len(run.suspects) / labelled)})"
        if run.calibrated:
            points.append(f"{count} are more probably wrong than right.")
        else:
            points.append(
                f"{count} score above one half for being wrong; the score is not calibrated, so it "
                "is no probability."
            )
    elif labelled:
        points.append(
            f"{len(run.suspects):,} of {labelled:,} labels are disputed by the model and count "
            "less than average."
        )
    rate = (run.metrics.get("noise_rate") or {}).get("sentence")
    if isinstance(rate, str):
        points.append(f"{rate[0].upper()}{rate[1:]}.")
    noise = run.metrics.get("noise_detection")
    if noise:
        points.append(
            f"The truth is known here: {percent(noise['noise_rate'])} of the labels are wrong, and "
            f"ranking them first works with average precision {noise['average_precision']:.3f} "
            f"(chance {noise['noise_rate']:.3f}), AUROC {noise['auroc']:.3f}."
        )
    return points
