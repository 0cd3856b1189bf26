"""`sama why`: effects of a training row on clean rows, and the other way round."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samacli.errors import SamaError
from samacli.meta.adaptation import adapt
from samacli.report.finished import FinishedRun
from samacli.runs.prune import prune
from samacli.runs.reweight import reweight
from samacli.runs.why import _Asked, why
from samacli.training.objective import model_logits, to_device
from tests.conftest import make_texts, text_recipe, write_csv


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of the first clean row, twice over, the first training row has the right label, the second a
    wrong one; the last has none."""
    made = make_texts(tmp_path_factory.mktemp("texts"))
    with made["clean"].open(newline="") as clean, made["noisy"].open(newline="") as noisy:
        text, label = list(csv.reader(clean))[1]
        rows = [tuple(row) for row in list(csv.reader(noisy))[1:]]
    other = next(name for _, name, _ in rows if name != label)
    twins = [(f"{text} {text}", label, label), (f"{text} {text}", other, label)]
    rows = [*twins, *rows, (rows[0][0], "", rows[0][2])]
    write_csv(made["noisy"], rows, ("text", "label", "truth"))
    return made


@pytest.fixture(scope="module")
def run(texts: dict[str, Path], tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("explained") / "run"
    short = ["training.steps=30", "reweight.baselines=[]", "data.abstain=keep"]
    reweight(text_recipe(texts, tiny_bert, *short), out, device="cpu")
    return out


@pytest.fixture(scope="module")
def asked(run: Path) -> _Asked:
    return _Asked.open(FinishedRun.read(run), "cpu", None)


def gradient(asked: _Asked, encoded: Any, place: int, label: int) -> list[torch.Tensor]:
    """By the reverse mode, where the command takes the forward one."""
    (batch,) = asked.experiment.in_order(encoded, np.array([place]))
    batch = to_device(batch, torch.device("cpu"))
    logits = model_logits(asked.model, batch)
    loss = -logits.log_softmax(-1)[0, label]
    found = torch.autograd.grad(loss, asked.params, allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g for p, g in zip(asked.params, found, strict=True)
    ]


def effect(asked: _Asked, row: list[torch.Tensor], clean: list[torch.Tensor]) -> float:
    towards = [g.clone() for g in clean]
    adapt(asked.optimizer, asked.params, towards)
    inner = sum(float((a.double() * b.double()).sum()) for a, b in zip(row, towards, strict=True))
    return inner / asked.experiment.recipe.training.batch_size


def test_effects_are_products_of_the_rows_gradients(asked: _Asked) -> None:
    experiment = asked.experiment
    train, meta = experiment.splits.train, experiment.splits.meta
    assert meta is not None
    found = asked._effects(asked._gradient(experiment.train, 5), experiment.clean, meta)
    own = gradient(asked, experiment.train, 5, int(train.labels[5]))
    expected = [
        effect(asked, own, gradient(asked, experiment.clean, j, int(meta.labels[j])))
        for j in range(6)
    ]
    np.testing.assert_allclose(found[:6], expected, rtol=2e-3, atol=1e-8)
    # The other way round it is the same number.
    back = asked._effects(asked._gradient(experiment.clean, 3), experiment.train, train)
    assert back[5] == pytest.approx(found[3], rel=2e-3)
    assert np.isnan(back[train.labels < 0]).all()
    assert np.isfinite(back[train.labels >= 0]).all()


def test_of_each_label_the_mean_effect_is_told(asked: _Asked) -> None:
    experiment = asked.experiment
    meta = experiment.splits.meta
    assert meta is not None
    found = asked._by_label(7)
    clean = [gradient(asked, experiment.clean, j, int(meta.labels[j])) for j in range(len(meta))]
    mean = [torch.stack(parts).mean(0) for parts in zip(*clean, strict=True)]
    expected = [
        effect(asked, gradient(asked, experiment.train, 7, label), mean)
        for label in range(len(experiment.splits.classes))
    ]
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-8)


def test_the_model_is_the_runs_and_stays_as_it_is(asked: _Asked, run: Path) -> None:
    from safetensors.torch import load_file

    saved = load_file(run / "model" / "model.safetensors")
    for name, value in asked.model.state_dict().items():
        if name in saved:
            torch.testing.assert_close(value, saved[name], rtol=0, atol=0)


def test_a_right_label_helps_its_twin_and_a_wrong_one_hurts_it(run: Path, asked: _Asked) -> None:
    experiment = asked.experiment
    gradient = asked._gradient(experiment.clean, 0)
    effects = asked._effects(gradient, experiment.train, experiment.splits.train)
    assert effects[0] > 0 > effects[1]
    found = why(run, clean=0, device="cpu")
    assert found.side == "clean"
    assert (found.helped, found.hurt) == (int((effects > 0).sum()), int((effects < 0).sum()))
    assert found.helps[0].row == int(np.nanargmax(effects))
    assert found.hurts[0].row == int(np.nanargmin(effects))
    right, wrong = why(run, row=0, device="cpu"), why(run, row=1, device="cpu")
    assert right.effect > wrong.effect
    assert right.labels == pytest.approx(wrong.labels, rel=1e-4), "the text is the same"
    assert right.labels[str(right.label)] == pytest.approx(right.effect, rel=1e-3)
    assert right.nearest[0].row == 1
    assert right.nearest[0].value == pytest.approx(1, abs=1e-5)
    assert right.helped + right.hurt == 60


def test_a_row_without_a_label_is_told_which_would_help(run: Path) -> None:
    last = int(FinishedRun.read(run).scores.index[-1])
    found = why(run, row=last, device="cpu")
    assert found.label is None
    assert np.isnan(found.effect)
    assert not found.helps
    assert len(found.labels) == 3


def test_on_the_command_line(run_sama: Any, run: Path) -> None:
    code, out, _ = run_sama("why", run, "--row", 1)
    assert code == 0
    assert "clean rows it helps most" in out
    assert "with the label" in out
    code, out, _ = run_sama("why", run, "--clean", 0, "--json")
    assert code == 0
    assert json.loads(out)["side"] == "clean"


def test_what_cannot_be_asked_is_said(
    run_sama: Any, run: Path, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    def refused(*arguments: object) -> str:
        code, _, err = run_sama("why", *arguments)
        assert code == 2, err
        assert len(err.strip().splitlines()) == 1 or "error:" in err
        return " ".join(str(err).split())

    assert "name one row: --row N" in refused(run)
    assert "name one row: --row N" in refused(run, "--row", 1, "--clean", 1)
    assert "--row 9999" in refused(run, "--row", 9999)
    assert "--clean 9999" in refused(run, "--clean", 9999)
    without = tmp_path / "without"
    shutil.copytree(run, without)
    shutil.rmtree(without / "model")
    assert "holds no model/" in refused(without, "--row", 1)
    kept = texts["noisy"].read_text()
    try:
        lines = kept.splitlines(keepends=True)
        texts["noisy"].write_text("".join([*lines[:3], *lines[4:]]))
        assert "does not have the rows any more" in refused(run, "--row", 1)
    finally:
        texts["noisy"].write_text(kept)
    pruned = tmp_path / "pruned"
    recipe = text_recipe(
        texts, tiny_bert, "training.steps=2", "prune.trust=none", "prune.order=highest"
    )
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"meta": None})})
    prune(recipe, pruned, device="cpu")
    with pytest.raises(SamaError, match="had no clean set"):
        why(pruned, row=1, device="cpu")
