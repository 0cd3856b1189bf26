"""One row explained, and runs side by side, against brute force over the files."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from samacli.errors import SamaError
from samacli.report.compare import compare
from samacli.report.inspect import inspect
from samacli.report.numbers import Lead
from samacli.training.difference import difference
from tests.report.runs import pruning, write_run
from tests.report.test_report import HOSTILE

Run = Callable[..., tuple[int, str, str]]


def test_ranks_and_neighbours_are_those_of_the_weights(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    scores = pq.read_table(run / "scores.parquet").to_pydict()
    for place in (0, 1, 31, 59):
        found = inspect(run, 2 * place)
        weights = scores["weight"]
        heavier = [w for w in weights if w > weights[place]]
        assert found.rank == len(heavier) + 1
        assert found.ranked == 60
        same = [w for w, g in zip(weights, scores["given_label"], strict=True) if g == found.given]
        assert found.rank_in_class == sum(w > weights[place] for w in same) + 1
        assert found.ranked_in_class == len(same)
        assert found.text == f"text number {place}"
        assert found.weight == pytest.approx(weights[place])
        assert found.loss == pytest.approx(scores["loss"][place])
        assert found.mislabelled == pytest.approx(scores["mislabelled"][place])
        gaps = sorted(abs(w - weights[place]) for i, w in enumerate(weights) if i != place)
        told = [abs(row.value - found.weight) for row in found.nearest]
        assert told == pytest.approx(gaps[: len(told)])
        assert all(row.row != found.row for row in found.nearest)
        assert all(row.text == f"text number {row.row // 2}" for row in found.nearest)
        # The function by hand: weight 2 / (1 + loss) at five losses, straight between them.
        grid = np.array([0, 0.5, 1, 1.5, 2])
        expected = np.interp(found.loss, grid, (2 / (1 + grid)).round(4))
        assert found.expected_weight == pytest.approx(expected)


def test_what_was_pruned_still_has_its_text_if_it_is_suspect(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", workflow="prune", methods=pruning())
    found = inspect(run, 2)
    assert found.kept is False
    assert found.text == "text number 1"
    assert any("pruned" in reason for reason in found.reasons)
    kept = next(i for i in range(60) if inspect(run, 2 * i).kept)
    assert inspect(run, 2 * kept).text == f"text number {kept}"


def test_a_row_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SamaError, match=r"--row 3: .* between 0 and 118"):
        inspect(write_run(tmp_path / "run"), 3)


def test_runs_are_told_apart_by_results_and_recipes(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")
    text = (two / "recipe.yaml").read_text().replace("repeats: 3", "repeats: 3\nseed: 7")
    (two / "recipe.yaml").write_text(text.replace("[loss, label]", "[loss]"))
    found = compare([one, two])
    assert found.differences == {
        "seed": [None, 7],
        "reweight.features": [["loss", "label"], ["loss"]],
    }
    assert [run.accuracy for run in found.runs] == [[0.80, 0.81, 0.82]] * 2
    assert found.runs[0].best_rival == "noisy"
    assert found.runs[0].average_precision == 0.875
    with pytest.raises(SamaError, match="two runs or more"):
        compare([one])


def test_one_of_many_leads_must_be_larger_to_be_clear() -> None:
    found = difference([0.83, 0.84, 0.845], [0.8, 0.8, 0.8], 10**12)
    assert found is not None
    assert Lead(found).clear
    assert not Lead(found, among=10).clear
    one_seed = difference([0.9], [0.1], 10**12)
    assert one_seed is not None
    assert not Lead(one_seed).clear, "whatever the rows say"
    assert Lead(one_seed).text == "+0.800"


def test_the_commands_print_tables_or_json_and_no_control_characters(
    run_sama: Run, tmp_path: Path
) -> None:
    texts = [text for text in HOSTILE if "\ud83d" not in text]
    names = ["[red]a[/red]", "\x1b[2Jb", ":smile:"]
    run = write_run(tmp_path / "run", texts=texts, classes=names)
    for command in (
        ["inspect", run, "--row", 6],
        ["inspect", run, "--row", 2],
        ["compare", run, run],
        ["report", run],
    ):
        code, plain, _ = run_sama(*command)
        assert code == 0
        code, out, err = run_sama(*command, "--json")
        assert code == 0
        assert err == ""
        assert isinstance(json.loads(out), dict)
        for text in (plain, out):
            assert not [c for c in text if unicodedata.category(c) == "Cc" and c != "\n"]
    _, plain, _ = run_sama("inspect", run, "--row", 0)
    assert "[red]a[/red]" in plain
    _, out, _ = run_sama("inspect", run, "--row", 6, "--json")
    assert json.loads(out)["text"] == texts[3], "machines get the text as it is"
    assert run_sama("report", tmp_path)[0] == 2
    code, out, _ = run_sama("recipes", "ls", "--json")
    assert {"name": "demo-text", "task": "text-classification"}.items() <= next(
        recipe for recipe in json.loads(out) if recipe["name"] == "demo-text"
    ).items()
