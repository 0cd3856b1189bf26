"""Keys that recipes once had: what was decided instead, so that old recipes still mean something.

A recipe that is written out in full names every key of its time. Where it says what is now the
rule, it is read as before; where it says something else, it is refused in one sentence.
"""

from __future__ import annotations

from typing import Any

# Dotted key -> values that say what is now the rule, and what became of the key.
RETIRED: dict[str, tuple[tuple[Any, ...], str]] = {
    "data.pixels": (
        ("auto",),
        "held pixels lie on the GPU where they take no more than a quarter of its free memory",
    ),
    "training.optimizer.betas": (
        ([0.9, 0.999],),
        "write training.optimizer.arguments: {betas: […]}",
    ),
    "training.skip_at_most": ((10,), "the tenth step in a row that is not finite ends the run"),
    "training.memory_format": (
        ("auto", "channels-last"),
        "image networks are channels-last on CPU and CUDA, contiguous elsewhere",
    ),
    "meta.hidden": ((64,), "the meta-weight-net is 64 wide"),
    "meta.average_from": (
        (0.5,),
        "an example's weight is its mean over the second half of the steps",
    ),
    "reweight.learn_until": (
        (0.5,),
        "with clean rows in its batches the base model sees all of them in the second half",
    ),
    "reweight.held_out_per_class": (
        (16,),
        "16 clean rows a class, half of the class at most, are held out for the reweighter",
    ),
    "reweight.rivals.truncation": ((0.3,), "loss-truncation drops 30 % of each batch"),
    "reweight.rivals.truncation_warmup": (
        (0.25,),
        "loss-truncation begins after a quarter of the steps",
    ),
    "reweight.rivals.elr_lambda": ((3.0,), "elr has its paper's strength, 3"),
    "reweight.rivals.elr_beta": ((0.7,), "elr has its paper's momentum, 0.7"),
    "reweight.rivals.folds": ((3,), "confident-learning has three folds"),
}


def without_retired(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe's nested dicts without keys that are no more and said what is now the rule.

    Raises:
        ValueError: one says something else; the sentence tells what became of it.
    """
    for key, (rule, instead) in RETIRED.items():
        *sections, last = key.split(".")
        path = [content]
        for section in sections:
            below = path[-1].get(section)
            path.append(below if isinstance(below, dict) else {})
        if last not in path[-1]:
            continue
        value = path[-1][last]
        if (list(value) if isinstance(value, tuple) else value) not in rule:
            raise ValueError(f"{key} is no more: {instead}")
        content = _without(content, [*sections, last])
    return content


def _without(content: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """A copy that lacks one key, and its section where that is left empty."""
    first, *rest = path
    if not rest:
        return {key: value for key, value in content.items() if key != first}
    below = _without(content[first], rest)
    kept = {key: value for key, value in content.items() if key != first or below}
    return kept | ({first: below} if below else {})
