"""A table of subsets: scoring runs are made once, rows are of the right selection, goals judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import average_precision_score

from samacli.errors import SamaError
from samacli.lab.table.description import TableSpec, load_table
from samacli.lab.table.figures import blocks, judged
from samacli.lab.table.page import render, texts
from samacli.lab.table.plan import Cell, Choice, plan
from samacli.lab.table.rows import Ledger, Row, ScoreCache, Store
from samacli.lab.table.run import left, seconds
from samacli.lab.table.runner import Options, Runner
from samacli.recipe import Recipe
from samacli.runs.prune import methods
from samacli.runs.prune.methods import PRUNING_METHODS, SCORING, chosen_rows
from samacli.training.experiment import Experiment
from tests.lab.test_table import row_of

Run = Callable[..., tuple[int, str, str]]

TINY = [
    "training.steps=4",
    "training.batch_size=16",
    "meta.batch_size=10",
    "model.config={hidden_sizes: [8, 8], depths: [1, 1], embedding_size: 8}",
    "data.max_train_rows=120",
    "prune.order=highest",
    "prune.folds=2",
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    content = {
        "name": "subsets",
        "title": "Subsets",
        "workflow": "prune",
        "plain": "full",
        "keeps": [0.7, 0.5],
        "seeds": [1, 2],
        "settings": [
            {
                "name": "clean", "title": "Clean", "group": "clean", "recipe": "demo-vision",
                "set": [*TINY, "data.meta=null", "data.meta_per_class=null",
                        "data.noise={kind: none, rate: 0}"],
                "without": ["ccs"],
            },
            {"name": "noisy", "title": "Noisy", "group": "noisy", "recipe": "demo-vision",
             "set": TINY},
        ],
        "methods": ["full", "rival-scores", "sama-scores", "sama", "random", "el2n",
                    "el2n-lowest", "ccs"],
        "goals": [
            {"text": "within an error of the best", "over": "best", "errors": -1,
             "labels": "clean"},
            {"text": "better than random", "over": "random"},
            {"text": "clearly the best", "over": "best", "errors": 2, "labels": "wrong"},
            {"text": "above all of the noisy rows", "over": "full", "keep": 0.7,
             "labels": "wrong"},
            {"text": "scoring is quick", "scoring": 1.5},
        ],
    }  # fmt: skip
    path = tmp_path / "subsets.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def table(file: Path) -> TableSpec:
    return load_table(str(file))


def cell_of(table: TableSpec, setting: str, method: str, seed: int = 1) -> Cell:
    choice = Choice(settings=[setting], methods=[method], seeds=[seed])
    return next(cell for cell in plan(table, choice) if cell.entry.name == method)


def test_a_method_that_prunes_is_a_line_for_each_keep(table: TableSpec) -> None:
    names = [cell.entry.name for cell in plan(table, Choice(settings=["noisy"], seeds=[1]))]
    assert names[:3] == ["full", "rival-scores", "sama-scores"]
    assert names[3:] == [
        f"{name}-{keep}"
        for name in ("sama", "random", "el2n", "el2n-lowest", "ccs")
        for keep in ("0.7", "0.5")
    ]
    clean = [cell.entry.name for cell in plan(table, Choice(settings=["clean"], seeds=[1]))]
    assert clean == [name for name in names if not name.startswith("ccs")]
    some = plan(table, Choice(methods=["el2n", "sama-0.5"], settings=["clean"], seeds=[1]))
    assert [cell.entry.name for cell in some] == ["sama-0.5", "el2n-0.7", "el2n-0.5"]
    with pytest.raises(SamaError, match="no method 'el2m'; did you mean 'el2n'"):
        plan(table, Choice(methods=["el2m"]))
    with pytest.raises(SamaError, match="'sama' prunes; give keeps"):
        plan(table.model_copy(update={"keeps": []}))
    settings = [table.settings[0].model_copy(update={"without": ["cc"]})]
    with pytest.raises(SamaError, match="is without 'cc', which is no method"):
        plan(table.model_copy(update={"settings": settings}))


def test_a_recipe_outdates_the_rows_that_it_concerns_and_no_others(table: TableSpec) -> None:
    def digests(changed: TableSpec) -> dict[str, str]:
        cells = plan(changed, Choice(settings=["noisy"], seeds=[1]))
        return {cell.entry.name: cell.digest for cell in cells}

    def differing(other: TableSpec) -> set[str]:
        before, after = digests(table), digests(other)
        return {name for name in before if before[name] != after[name]}

    def with_override(override: str) -> TableSpec:
        settings = [s.model_copy(update={"set": [*s.set, override]}) for s in table.settings]
        return table.model_copy(update={"settings": settings})

    ours = {"sama-scores", "sama-0.7", "sama-0.5"}
    assert differing(with_override("meta.learning_rate=0.5")) == ours
    assert differing(with_override("prune.trust=none")) == ours
    assert differing(with_override("training.steps=5")) == set(digests(table))
    assert differing(with_override("prune.scores=[sama, el2n]")) == set()
    assert differing(with_override("reweight.clean_share=0.1")) == set()
    assert differing(table.model_copy(update={"keeps": [0.7, 0.5, 0.3]})) == {"sama-scores"}


def test_scores_are_made_once_and_serve_every_selection(
    table: TableSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def counting(name: str) -> Callable[[Experiment, int], methods.ScoringRun]:
        def work(experiment: Experiment, seed: int) -> methods.ScoringRun:
            made.append(name)
            return original[name](experiment, seed)

        return work

    original = dict(SCORING)
    for name in original:
        monkeypatch.setitem(SCORING, name, counting(name))
    options = Options("cpu", threads=1, jobs=1, scores=tmp_path / "scores")

    def run(worker: Runner, method: str) -> Row:
        return worker.run(cell_of(table, "noisy", method))

    first = Runner(options, pytest.fail)
    el2n = run(first, "el2n-0.5")  # its scoring run is made when it is asked for
    lowest = run(first, "el2n-lowest-0.5")
    ours = [run(first, name) for name in ("sama-0.7", "sama-0.5")]
    assert made == ["rival-scores", "sama-scores"]

    # A table that was cut off before it wrote the scoring run's row still gets it, as measured.
    second = Runner(options, pytest.fail)
    rivals, sama = run(second, "rival-scores"), run(second, "sama-scores")
    assert (rivals.method, sama.method) == ("rival-scores", "sama-scores")
    assert rivals.accuracy is None
    assert rivals.steps == 4
    # the plain run, half of one, and SAMA's own run
    assert sama.steps == 4 + 2 + 4
    assert sama.parts is not None
    assert set(sama.parts) == {"plain", "trust", "sama"}
    assert sum(sama.parts.values()) == pytest.approx(sama.seconds)
    assert run(second, "el2n-0.5").accuracy == el2n.accuracy
    assert run(second, "ccs-0.5").accuracy is not None
    assert made == ["rival-scores", "sama-scores"]

    # What a score would drop first is what it takes for wrong.
    experiment = Experiment.prepare(cell_of(table, "noisy", "full").recipe, device="cpu")
    train = experiment.splits.train
    (file,) = (tmp_path / "scores").glob("rival-scores-*.npz")
    with np.load(file) as content:
        scores = content["el2n"]
    wrong = train.labels != train.true_labels
    assert el2n.noise is not None
    assert lowest.noise is not None
    seen = np.nan_to_num(scores, nan=np.nanmin(scores) - 1)
    assert el2n.noise["average_precision"] == pytest.approx(average_precision_score(wrong, -seen))
    assert el2n.noise["auroc"] != pytest.approx(lowest.noise["auroc"])
    assert ours[0].noise == ours[1].noise
    assert ours[0].noise is not None
    assert sama.noise is not None
    assert ours[0].noise.items() <= sama.noise.items()


def test_a_selection_keeps_classes_in_proportion_and_unseen_rows_last() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [20, 10, 10])
    scores = rng.permutation(40).astype(float)
    scores[[3, 25, 38]] = np.nan

    class Train:
        recipe = Recipe()
        splits = type("Splits", (), {"train": type("Split", (), {"labels": labels})})

        def __len__(self) -> int:
            return 40

    experiment: Any = Train()
    experiment.train = experiment
    for name, sign in (("el2n", 1), ("el2n-lowest", -1)):
        chosen = chosen_rows(experiment, PRUNING_METHODS[name], 0.5, {"el2n": scores})
        expected = []
        for label, quota in ((0, 10), (1, 5), (2, 5)):
            rows = [row for row in range(40) if labels[row] == label and not np.isnan(scores[row])]
            expected += sorted(rows, key=lambda row: -sign * scores[row])[:quota]
        assert chosen.tolist() == sorted(expected)


def test_a_file_of_scores_is_whole_or_made_again(table: TableSpec, tmp_path: Path) -> None:
    row = row_of(cell_of(table, "clean", "rival-scores"))
    made = 0

    def make() -> tuple[Row, dict[str, np.ndarray]]:
        nonlocal made
        made += 1
        return row, {"el2n": np.array([1.0, np.nan, made])}

    def fail() -> tuple[Row, dict[str, np.ndarray]]:
        raise SamaError("out of luck")

    with pytest.raises(SamaError, match="out of luck"):
        ScoreCache(tmp_path).get("key", fail)
    assert not list(tmp_path.glob("*.npz"))
    ScoreCache(tmp_path).get("key", make)
    found, arrays = ScoreCache(tmp_path).get("key", fail)
    assert found == row
    np.testing.assert_array_equal(arrays["el2n"], [1.0, np.nan, 1.0])
    content = (tmp_path / "key.npz").read_bytes()
    (tmp_path / "key.npz").write_bytes(content[: len(content) // 2])
    _, arrays = ScoreCache(tmp_path).get("key", make)
    assert arrays["el2n"][2] == 2.0


ACCURACY = {
    # setting: {method: accuracies of seeds 1 and 2}
    "clean": {"full": (0.90, 0.92), "sama-0.7": (0.89, 0.91), "random-0.7": (0.85, 0.87),
              "el2n-0.7": (0.91, 0.90), "sama-0.5": (0.80, 0.80), "random-0.5": (0.82, 0.81),
              "el2n-0.5": (0.70, 0.70)},
    "noisy": {"full": (0.70, 0.70), "sama-0.7": (0.80, 0.81), "random-0.7": (0.69, 0.69),
              "el2n-lowest-0.7": (0.75, 0.76)},
}  # fmt: skip


def filled(table: TableSpec) -> Ledger:
    ledger = Ledger(Store(Path("nowhere"), "subsets"), [])
    for cell in plan(table):
        name, place = cell.entry.name, cell.seed - 1
        if name == "rival-scores":
            ledger.rows.append(row_of(cell, accuracy=None, seconds=12.0))
        elif name == "sama-scores":
            parts = {"plain": 12.5, "trust": 5.0, "sama": 20.0}
            ledger.rows.append(
                row_of(cell, accuracy=None, seconds=37.5, parts=parts, wall_seconds=40.0)
            )
        elif name in ACCURACY[cell.setting.name]:
            wrong = {"noise_rate": 0.2, "average_precision": 0.6, "auroc": 0.7}
            noise = wrong if cell.setting.name == "noisy" and name != "full" else None
            accuracy = ACCURACY[cell.setting.name][name][place]
            ledger.rows.append(row_of(cell, accuracy=accuracy, noise=noise))
    return ledger


def test_goals_are_judged_by_the_rows(table: TableSpec) -> None:
    found = judged(table, blocks(table, plan(table), filled(table)))
    best, random, clearly, full, times = found
    # clean 0.7: el2n leads by 0.005 ± 0.015; clean 0.5: random by 0.015 ± 0.005
    assert [(case.place, case.met) for case in best.cases] == [
        ("Clean, keep 0.7", True),
        ("Clean, keep 0.5", False),
    ]
    assert best.met is False
    assert [case.met for case in random.cases] == [True, False, True, None]
    assert [(case.place, case.met) for case in clearly.cases] == [
        ("Noisy, keep 0.7", True),
        ("Noisy, keep 0.5", None),
    ]
    assert clearly.met is None, "what is not measured is not met"
    assert full.met is True
    assert [case.met for case in times.cases] == [True, False, False] * 2  # 1.2, 1.6, 3.0


def test_the_page_shows_each_score_beside_the_full_set(table: TableSpec, tmp_path: Path) -> None:
    cells, ledger = plan(table), filled(table)
    text = texts(table, cells, ledger, {})["md"]
    lines = text.splitlines()
    assert "| all rows | 0.910 ± 0.014 | 0.910 ± 0.014 | -0.010 ± 0.000 | -0.110 ± 0.010 |" in lines
    assert "| sama | 0.900 ± 0.014 | 0.800 ± 0.000 | – | – |" in lines
    el2n = "| el2n | **0.905 ± 0.007** | 0.700 ± 0.000 | -0.005 ± 0.015 | +0.100 ± 0.000 |"
    assert el2n in lines
    assert "0.200 of the training labels are wrong" in text
    row = next(
        line for line in lines if line.startswith("| el2n-lowest | **0.7") or "0.755" in line
    )
    assert row.endswith("| 0.600 ± 0.000 | 0.700 ± 0.000 |")
    assert "- above all of the noisy rows: **met**, 1 of 1 place" in lines
    cost = next(line for line in lines if line.startswith("| Clean | 10.0"))
    assert "| 1.20 ± 0.00 | 3.00 ± 0.00 | 1.00 ± 0.00 | 0.40 ± 0.00 | 1.60 ± 0.00 | – |" in cost
    assert sorted(file.suffix for file in render(table, cells, ledger, tmp_path)) == [
        ".csv", ".md", ".png",
    ]  # fmt: skip


def test_what_is_left_is_estimated_in_plain_runs(table: TableSpec) -> None:
    ledger = Ledger(Store(Path("nowhere"), "subsets"), [])
    cells = {(c.setting.name, c.entry.name, c.seed): c for c in plan(table)}
    assert seconds(cells["noisy", "sama-0.5", 2], ledger) is None
    ledger.rows.append(row_of(cells["noisy", "full", 1], wall_seconds=10.0))
    assert seconds(cells["noisy", "el2n-0.5", 2], ledger) == 10.0
    # a plain run, one of two parts held out, and the SAMA run, taken for one and a half
    assert seconds(cells["noisy", "sama-scores", 2], ledger) == 30.0
    ledger.rows.append(row_of(cells["noisy", "sama-scores", 1], wall_seconds=50.0))
    assert seconds(cells["noisy", "sama-scores", 2], ledger) == 50.0
    assert seconds(cells["noisy", "sama-0.7", 1], ledger) == 10.0
    assert seconds(cells["clean", "full", 1], ledger) is None, "another data set"


def test_a_table_of_subsets_goes_on_where_it_was_cut_off(
    run_sama: Run, file: Path, table: TableSpec, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    command = ["table", file, "--only", "clean", "--seeds", "1", "--jobs", "1", "--threads", "1",
               "--methods", "full,rival-scores,el2n", "-o", out]  # fmt: skip
    code, _, err = run_sama("--device", "cpu", *command)
    assert code == 0, err
    rows = out / "subsets.jsonl"
    before = rows.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["method"] for line in before] == [
        "full", "rival-scores", "el2n-0.7", "el2n-0.5",
    ]  # fmt: skip
    (scores,) = (out / "subsets-scores").glob("*.npz")
    made = scores.stat().st_mtime_ns
    # as if it had been killed after the scoring run, before its row
    rows.write_bytes(before[0])
    choice = Choice(["clean"], ["full", "rival-scores", "el2n"], [1])
    store = Store(out, "subsets")
    assert len(left(plan(table, choice), Ledger(store, store.read()[0])).runs) == 3
    code, _, err = run_sama("--device", "cpu", *command)
    assert code == 0, err
    again = rows.read_bytes().splitlines(keepends=True)
    assert again[:2] == before[:2]
    assert [json.loads(line)["accuracy"] for line in again] == [
        json.loads(line)["accuracy"] for line in before
    ]
    assert scores.stat().st_mtime_ns == made
    assert "| el2n |" in (out / "subsets.md").read_text()
