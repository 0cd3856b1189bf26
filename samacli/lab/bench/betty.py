"""The paper's reference library on the same work, where it is installed (betty-ml).

Its problems and engine, as its own data-reweighting example states them. It evaluates weights at
the perturbed losses too, and gives its own step length to the difference; that is left as it is.
The last release, 0.1.1, has "darts" (what we call sama-na); "sama" is in its repository alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from samacli.lab.bench.work import Work, meta_loss, weighted_objective
from samacli.training.objective import Batch


class Betty:
    """Betty's engine, with its estimator of the meta gradient: "sama" or "darts"."""

    def __init__(self, work: Work, method: str) -> None:
        configs = importlib.import_module("betty.configs")
        implicit: Any = importlib.import_module("betty.problems").ImplicitProblem
        engine = importlib.import_module("betty.engine")

        class Base(implicit):
            def training_step(self, batches: tuple[Batch]) -> Tensor:
                (batch,) = batches
                return weighted_objective(self.weights.module, work.logits(batch), batch)

        class Weights(implicit):
            def training_step(self, batches: tuple[Batch]) -> Tensor:
                (batch,) = batches
                with work.autocast():
                    return meta_loss(work.model, batch)

        self.work = work
        common: dict[str, Any] = {"device": work.replica.device}
        base = Base(
            name="base",
            config=configs.Config(type=method, unroll_steps=work.setting.unroll),
            module=work.model,
            optimizer=work.optimizer,
            train_data_loader=_wrapped(work.batches),
            **common,
        )
        weights = Weights(
            name="weights",
            config=configs.Config(type=method),
            module=work.meta,
            optimizer=work.meta_optimizer,
            train_data_loader=_wrapped(work.meta_batches),
            **common,
        )
        self._engine = engine.Engine(
            config=configs.EngineConfig(train_iters=1),
            problems=[weights, base],
            dependencies={"u2l": {weights: [base]}, "l2u": {base: [weights]}},
        )
        self._engine.train()

    def run(self, steps: int) -> None:
        """`steps` more base steps, with a meta step to every `unroll` of them."""
        for _ in range(steps):
            self._engine.global_step += 1
            self._engine.train_step()


def _wrapped(batches: Iterator[Batch]) -> Iterator[tuple[Batch]]:
    """As tuples: releases before dictionaries were understood take a batch apart."""
    return ((batch,) for batch in batches)
