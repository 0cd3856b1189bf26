"""docs/results/attribution.md: what it correlates, and the rivals' formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from samacli.lab import attribution
from samacli.lab.attribution import Row
from samacli.training.embed import last_linear
from samacli.training.experiment import Experiment
from samacli.training.objective import clean_loss

COUNT = 200


def additive(noise: float = 0.0) -> list[Row]:
    """Retrainings whose clean loss is a sum over the rows that were in."""
    generator = np.random.default_rng(3)
    true = generator.normal(size=COUNT)
    rows: list[Row] = [
        {
            "of": "scores",
            "number": 0,
            "took": {"plain": 2.0, "value": 2.4, "value, a tenth": 2.1},
            "scores": {
                "value": true.tolist(),
                "value, a tenth": (true + generator.normal(size=COUNT)).tolist(),
                "loss": generator.normal(size=COUNT).tolist(),
                "el2n": (-true).tolist(),
            },
        }
    ]

    def loss(members: np.ndarray) -> float:
        return float(10 - true[members].sum() + noise * generator.normal())

    for number in range(40):
        found = loss(attribution.subset(COUNT, number))
        rows.append({"of": "half", "number": number, "clean": found, "test": -found, "seconds": 1})
    for number, group in enumerate(attribution.groups(COUNT)):
        found = loss(np.setdiff1d(np.arange(COUNT), group))
        rows.append(
            {"of": "without", "number": number, "clean": found, "test": -found, "seconds": 1}
        )
    return rows


def test_the_score_is_the_rank_correlation_with_retraining() -> None:
    found = attribution.scored(additive())
    assert found["value"][0] == pytest.approx(1)
    assert found["el2n"][0] == pytest.approx(-1)
    assert 0.4 < found["value, a tenth"][0] < 0.95
    assert abs(found["loss"][0]) < 0.5
    assert found["group left out"][0] > 0.15, "leaving out a helpful group makes the loss higher"
    assert all(low <= estimate <= high for estimate, low, high in found.values())
    assert attribution.scored(additive(), "test")["value"][0] == pytest.approx(-1)


def test_the_page_judges_by_its_lines() -> None:
    page = attribution.page(additive())
    assert "slopes have the highest score (+" in page
    assert "1.3 times the time of a plain run (1.20): **met**" in page
    halves = {"of": "trec halves", "number": 0, "seconds": 9, "own rate": 0.46, "other rate": 0.46}
    page = attribution.page([{**halves, "own": 0.85, "other": 0.80}])
    assert "| 0 | 0.850 (chance 0.460) | 0.800 (chance 0.460) | -0.050 |" in page
    assert "within 0.02: **not met**" in page


def test_groups_and_halves_are_the_same_each_time() -> None:
    assert sorted(np.concatenate(attribution.groups(COUNT))) == list(range(COUNT))
    first, second = (attribution.subset(COUNT, number) for number in (0, 1))
    assert len(first) == len(second) == COUNT // 2
    assert np.array_equal(first, attribution.subset(COUNT, 0))
    assert not np.array_equal(first, second)


def test_tracin_is_the_product_of_gradients() -> None:
    pytest.importorskip("sklearn")
    experiment = Experiment.prepare(attribution.digits(), device="cpu")
    model = experiment.new_model(0).eval()
    whole, last = attribution._tracin(experiment, model)
    params = [p for p in model.parameters() if p.requires_grad]
    linear = last_linear(model)
    head = {id(linear.weight), id(linear.bias)}
    (clean,) = experiment.in_order(experiment.clean)
    mean = torch.autograd.grad(clean_loss(model, clean), params)
    for row in (0, 17, 400):
        (batch,) = experiment.in_order(experiment.train, np.array([row]))
        own = torch.autograd.grad(clean_loss(model, batch), params)
        products = [float((a * b).sum()) for a, b in zip(own, mean, strict=True)]
        of_head = [x for x, p in zip(products, params, strict=True) if id(p) in head]
        assert whole[row] == pytest.approx(sum(products), rel=1e-3, abs=1e-5)
        assert last[row] == pytest.approx(sum(of_head), rel=1e-3, abs=1e-5)


def test_lines_are_kept_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def retrained(experiment: object, rows: np.ndarray, what: str) -> Row:
        made.append(len(rows))
        return {"seconds": 1.0, "clean": float(len(made)), "test": 0.5}

    scores = {name: np.arange(COUNT) % 7 for name in ("value", "value, a tenth", "loss")}
    took = {"plain": 1.0, "value": 1.0, "value, a tenth": 1.0}
    monkeypatch.setattr(attribution, "retrained", retrained)
    monkeypatch.setattr(attribution, "attributions", lambda _: (scores, took))
    monkeypatch.setattr(attribution.Experiment, "prepare", lambda *_, **__: Stub())
    file = tmp_path / "attribution.jsonl"
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path), "--halves", "4"]
    attribution.main(arguments)
    assert len(file.read_text().splitlines()) == 1 + 4 + attribution.GROUPS
    attribution.main(arguments)
    assert len(made) == 4 + attribution.GROUPS, "nothing is measured twice"
    assert (tmp_path / "attribution.md").read_text().startswith("# Who is to blame")


class Stub:
    train = range(COUNT)
