"""What `reweight` and `prune` leave behind is enough for the report, `inspect` and `compare`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from samacli.report import build_report
from samacli.runs.prune import prune
from samacli.runs.reweight import reweight
from samacli.training.spread import with_spread
from tests.conftest import make_texts, text_recipe
from tests.report.test_report import parsed, words

Run = Callable[..., tuple[int, str, str]]

SHORT = ("training.steps=12", "repeats=2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    texts = make_texts(folder)
    noisy = texts["noisy"].read_text().splitlines()
    noisy[1] = "<script>window.hacked=1</script> \x1b[31mball,sport,sport"
    texts["noisy"].write_text("\n".join(noisy) + "\n")
    chosen = text_recipe(texts, tiny_bert, *SHORT, "reweight.correction=true")
    reweight(chosen, folder / "reweight", device="cpu")
    chosen = text_recipe(texts, tiny_bert, *SHORT, "prune.keep=[0.5]")
    prune(chosen, folder / "prune", device="cpu")
    return {name: folder / name for name in ("reweight", "prune")}


def metrics_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return found


@pytest.mark.parametrize("name", ["reweight", "prune"])
def test_the_report_is_written_and_rebuilt_from_the_files(runs: dict[str, Path], name: str) -> None:
    report = runs[name] / "report.html"
    first = report.read_bytes()
    assert build_report(runs[name]).read_bytes() == first
    document = parsed(report)
    text = words(document)
    metrics = metrics_of(runs[name])
    for method in metrics["methods"].values():
        assert with_spread(method["accuracy"]) in text
    for value in (*metrics["environment"].values(), *metrics["fingerprints"].values()):
        assert value in text
    assert f"{metrics['noise_detection']['average_precision']:.3f}" in text
    assert not [e for e in document.iter("script") if "hacked" in "".join(e.itertext())]


def test_curves_of_both_levels_and_the_weight_function_are_kept(runs: dict[str, Path]) -> None:
    for name, methods in (("reweight", {"noisy", "clean", "mixed"}), ("prune", {"full"})):
        with (runs[name] / "curves" / "learning.csv").open(newline="") as file:
            lines = list(csv.DictReader(file))
        assert methods <= {line["method"] for line in lines}
        assert {line["seed"] for line in lines} == {"0", "1"}
        if name == "reweight":
            sama = [line for line in lines if line["method"] == "sama" and line["seed"] == "0"]
            assert [int(line["step"]) for line in sama] == list(range(1, 13))
            assert any(line["meta_loss"] for line in sama)
            assert not any(line["meta_loss"] for line in lines if line["method"] == "noisy")
        with (runs[name] / "curves" / "weight_by_loss.csv").open(newline="") as file:
            functions = list(csv.DictReader(file))
        assert {line["class"] for line in functions} == {"sport", "money", "film"}
        assert all(float(line["weight"]) >= 0 for line in functions)


def test_fingerprints_are_of_the_data(runs: dict[str, Path]) -> None:
    found = [
        json.loads((run / "metrics.json").read_text())["fingerprints"] for run in runs.values()
    ]
    assert found[0] == found[1], "the same data in both runs"
    assert len(set(found[0].values())) == len(found[0]) == 3


def test_inspect_compare_and_json_work_on_them(runs: dict[str, Path], run_sama: Run) -> None:
    scores = pq.read_table(runs["reweight"] / "scores.parquet").to_pydict()
    code, out, _ = run_sama("inspect", runs["reweight"], "--row", "17", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["weight"] == pytest.approx(scores["weight"][17])
    assert found["given"] == scores["given_label"][17]
    assert found["text"]
    code, out, _ = run_sama("compare", *runs.values(), "--json")
    assert code == 0
    assert [run["workflow"] for run in json.loads(out)["runs"]] == ["reweight", "prune"]


def test_results_go_to_stdout_as_json_and_all_else_to_stderr(
    runs: dict[str, Path], run_sama: Run, tmp_path: Path
) -> None:
    texts = {name: runs["reweight"].parent / f"{name}.csv" for name in ("noisy", "clean", "test")}
    model = runs["reweight"] / "model"
    code, out, err = run_sama(
        "reweight", "--train", texts["noisy"], "--meta", texts["clean"], "--test", texts["test"],
        "--model", model, "--baselines", "none", "training.steps=2", "training.precision=fp32",
        "--output", tmp_path / "one", "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0, err
    printed = json.loads(out)
    assert printed["methods"] == metrics_of(tmp_path / "one")["methods"]
    code, out, _ = run_sama("evaluate", model, "--data", texts["test"], "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(out)["classes"]} == {"sport", "money", "film"}
    code, out, _ = run_sama(
        "train", runs["reweight"] / "dataset", "training.steps=2", "--test", texts["test"],
        "--output", tmp_path / "two", "--json",
    )  # fmt: skip
    assert code == 0
    assert len(json.loads(out)["accuracy"]) == 1
