"""What it costs to have every pruning score look on at a training run.

One plain run of the digits recipe (demo-vision) with all scores beside one without any, of the same
seed, in alternation; then the feature pass of the prototypes. Processor seconds of this process:
unlike wall-clock time they hardly depend on what else the machine does. One thread.

Usage: score_cost.py [PAIRS [STEPS]]
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch

from samacli.pruning.scores import make_scores, results
from samacli.recipe import load_recipe
from samacli.registry import RUN_SCORES
from samacli.training.experiment import Experiment


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 300
    torch.set_num_threads(1)
    experiment = Experiment.prepare(
        load_recipe("demo-vision", [f"training.steps={steps}"]), device="cpu"
    )
    train = experiment.train
    experiment.fit_plainly(train, 0, "warm up", steps=20)
    ratios, without, with_all, passes = [], [], [], []
    for seed in range(pairs):
        scores = make_scores(experiment, seed, RUN_SCORES)
        observers = list(scores.values())
        order = [[], observers] if seed % 2 == 0 else [observers, []]
        model = None
        for look in order:
            started = time.process_time()
            run = experiment.fit_plainly(train, seed, "run", observers=look)
            (with_all if look else without).append(time.process_time() - started)
            model = run.model if look else model
        started = time.process_time()
        results(experiment, scores, model)
        passes.append(time.process_time() - started)
        ratios.append(with_all[-1] / without[-1])
    figures = {
        "rows": len(train),
        "steps": experiment.steps,
        "scores": list(RUN_SCORES),
        "cpu_seconds_without": without,
        "cpu_seconds_with_all": with_all,
        "cpu_seconds_feature_pass_and_results": passes,
        "ratio_median": statistics.median(ratios),
        "ratios": ratios,
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
