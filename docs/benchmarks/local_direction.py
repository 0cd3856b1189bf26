"""How far the meta gradient that replicas take along directions of their own is from the exact one.

Replicas differentiate along v_r, each from its own meta batch, and average the results (the
default, as in the paper); `meta.synchronize=direction` averages v first, which gives the gradient
of the joined batch. Here both are taken at one θ, in one process, for the same R batches: of real
text with 40 % wrong labels (demo-text), after some training.

`make benchmarks` runs it. Usage: local_direction.py FILE.json
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor

from samacli.bilevel.features import Evidence
from samacli.bilevel.reweighter import Reweighter
from samacli.meta import WeightingProblem, weighting_meta_gradient
from samacli.progress import Silent
from samacli.recipe import load_recipe
from samacli.training.experiment import Experiment
from samacli.training.objective import Batch, clean_loss, model_logits
from samacli.training.optim import make_optimizer

REPLICAS = (2, 4)
DRAWS = 12
BASE_STEPS = 60
ROWS = 16  # a batch, of either level


def objective(reweighter: torch.nn.Module, logits: Tensor, batch: Batch) -> Tensor:
    """mean_i w_i ℓ_i, the weights not normalised in the batch, so that batches can be joined."""
    assert isinstance(reweighter, Reweighter)
    losses = torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none")
    weights = reweighter.weights(Evidence(logits.detach(), batch["labels"]))
    return (weights * losses).mean()


def joined(batches: list[Batch]) -> Batch:
    """One batch of all rows, padded to the longest."""
    width = max(b["input_ids"].shape[1] for b in batches)
    names = batches[0].keys()
    return {name: torch.cat([_padded(b[name], width) for b in batches]) for name in names}


def _padded(value: Tensor, width: int) -> Tensor:
    return value if value.dim() < 2 else torch.nn.functional.pad(value, (0, width - value.shape[1]))


def flat(grads: list[Tensor]) -> Tensor:
    return torch.cat([g.reshape(-1) for g in grads]).double()


def main() -> None:
    recipe = load_recipe("demo-text", ["training.precision=fp32"], {})
    experiment = Experiment.prepare(recipe, device="cpu", progress=Silent())
    assert experiment.meta is not None
    model = experiment.new_model(0)
    reweighter = Reweighter(["loss", "label"], len(experiment.splits.classes), hidden=64,
                            correction=False)  # fmt: skip
    optimizer = make_optimizer(model, recipe.training.optimizer)
    base = experiment._endless(experiment.train, ROWS, 0)
    clean = experiment._endless(experiment.meta, ROWS, 1)
    model.train()
    for _ in range(BASE_STEPS):
        batch = next(base)
        optimizer.zero_grad()
        objective(reweighter, model_logits(model, batch), batch).backward()
        optimizer.step()
    reweighter.zero_grad()
    model.eval()  # dropout masks would differ between a batch and its parts
    problem = WeightingProblem(model, optimizer, reweighter, model_logits, objective, clean_loss)
    rows = []
    for replicas in REPLICAS:
        local, exact = [], []
        for _ in range(DRAWS):
            parts = [(next(base), next(clean)) for _ in range(replicas)]
            own = [flat(weighting_meta_gradient(problem, b, m)) for b, m in parts]
            local.append(torch.stack(own).mean(0))
            whole = joined([b for b, _ in parts]), joined([m for _, m in parts])
            exact.append(flat(weighting_meta_gradient(problem, *whole)))
        errors = [float((a - b).norm() / b.norm()) for a, b in zip(local, exact, strict=True)]
        cosines = [
            float(torch.cosine_similarity(a, b, dim=0)) for a, b in zip(local, exact, strict=True)
        ]
        means = torch.stack(local).mean(0), torch.stack(exact).mean(0)
        rows.append(
            {
                "replicas": replicas,
                "draws": DRAWS,
                "relative_difference": statistics.median(errors),
                "cosine": statistics.median(cosines),
                "relative_difference_of_means": float(
                    (means[0] - means[1]).norm() / means[1].norm()
                ),
                "torch": torch.__version__,
            }
        )
        print(rows[-1])
    Path(sys.argv[1]).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
