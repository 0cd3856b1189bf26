"""`make gpu` without a GPU: all that it runs, in miniature, and how it spends its minutes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from samacli.data import load_splits
from samacli.recipe import load_recipe

GPU = Path(__file__).resolve().parents[2] / "docs" / "benchmarks" / "gpu"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", GPU / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run() -> ModuleType:
    return script("run")


def test_a_rehearsal_runs_every_kind_of_item_and_goes_on_where_it_stopped(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    rows = tmp_path / "rows"
    called = [sys.executable, str(GPU / "run.py"), "--rehearse", "--seconds", "500"]
    done = subprocess.run(
        [*called, "--rows", str(rows)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    attempts = run.Rows(rows).read()
    assert {row["kind"] for row in attempts} == {"tests", "bench", "table"}
    assert {row.get("table") for row in attempts} >= set(run.TABLES)
    for row in attempts:
        assert row["outcome"] == "done"
        assert row["torch"]
        assert row["device_name"]
    tests = next(row for row in attempts if row["kind"] == "tests")
    assert tests["tests"] > 0
    assert tests["failures"] == tests["errors"] == 0
    bench = next(row for row in attempts if row["kind"] == "bench")
    assert {"plain", "sama", "sama-na", "cg", "neumann", "unrolled"} <= {
        row["estimator"] for row in bench["rows"]
    }
    assert all(row["error"] is None for row in bench["rows"])

    # Nothing is lost of the tables: every method of every setting has its row.
    for name in run.TABLES:
        content = run.table(name)
        found = [json.loads(line) for line in (rows / f"{name}.jsonl").read_text().splitlines()]
        bases = {row["algorithm"] for row in found}
        named = [m if isinstance(m, dict) else {"name": m} for m in content["methods"]]
        assert bases == {method.get("method", method["name"]) for method in named}
        assert not list(rows.glob(f"{name}.md"))
    pruned = [json.loads(line) for line in (rows / "pruning.jsonl").read_text().splitlines()]
    assert {row["setting"] for row in pruned} == {"noise", "people"}

    # The page can be made of them.
    page = script("page")
    text = page.page(*page.read(rows))
    for words in ("What was run", "Throughput and memory", "What scores cost", "Long-tailed",
                  "retrained on a part", "Weakly labelled"):  # fmt: skip
        assert words in text

    # Done is done.
    assert {row["item"] for row in attempts}.isdisjoint(
        item.name for item in run.Rows(rows).left("another commit")
    )


def test_items_are_told_apart_and_ask_for_what_the_tables_have(run: ModuleType) -> None:
    found = run.items()
    assert len({item.name for item in found}) == len(found)
    for item in found:
        if item.kind != "table":
            continue
        name, *options = item.arguments
        content = run.table(name)
        given = dict(zip(options[::2], options[1::2], strict=True))
        settings = {setting["name"] for setting in content["settings"]}
        assert set(given["--only"].split(",")) <= settings
        keeps = content.get("keeps", [])
        named = [m if isinstance(m, str) else m["name"] for m in content["methods"]]
        methods = {*named, *(f"{name}-{keep}" for name in named for keep in keeps)}
        assert set(given["--methods"].split(",")) <= methods
        assert {int(seed) for seed in given["--seeds"].split(",")} <= set(content["seeds"])
    assert {item.kind for item in found if item.once} == {"tests", "bench", "table"}


def test_every_recipe_of_the_tables_is_one(run: ModuleType) -> None:
    from samacli.lab.table.description import load_table
    from samacli.lab.table.plan import plan

    for name in run.TABLES:
        cells = plan(load_table(str(GPU / f"{name}.yaml")))
        assert cells
        assert {cell.recipe.training.precision for cell in cells} == {"bf16"}


def test_only_what_fits_is_begun(run: ModuleType) -> None:
    a = run.Item("a", "bench", (), 60, "")
    b = run.Item("b", "table", (), 100, "", least=30)
    c = run.Item("c", "bench", (), 50, "")
    fits = [(item.name, given) for item, given in run.fitting([a, b, c], 100, 1.0)]
    assert fits == [("a", 60), ("b", 40)], "a table keeps what it has finished, a benchmark nothing"
    assert [item.name for item, _ in run.fitting([a, c], 100, 2.0)] == ["c"], "half as fast"


def attempt(item: str, outcome: str, **values: Any) -> dict[str, Any]:
    return {"item": item, "outcome": outcome, "commit": "abc", "seconds": 60, "resumed": False,
            **values}  # fmt: skip


def test_what_failed_is_tried_again_with_other_code_alone(run: ModuleType, tmp_path: Path) -> None:
    rows = run.Rows(tmp_path)
    first, second, third, *_ = run.items()
    rows.append(attempt(first.name, "done", seconds=2 * first.seconds))
    rows.append(attempt(second.name, "failed"))
    rows.append(attempt(third.name, "cut off"))
    with rows.file.open("a") as file:
        file.write('{"item": "half')
    names = [item.name for item in rows.left("abc")]
    assert first.name not in names
    assert second.name not in names
    assert third.name in names
    assert second.name in [item.name for item in rows.left("def")]
    assert rows.pace() == 2
    listed = run.listing(rows, 400)
    assert f"{first.name:24} {2 * first.seconds:8.0f}  done" in listed


def test_an_item_that_does_not_end_is_ended(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = run.Place(tmp_path, GPU, tmp_path)
    item = run.Item("slow", "bench", (), 1, "")
    sleeps = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    monkeypatch.setattr(run, "command", lambda *_: [sys.executable, "-c", sleeps])
    monkeypatch.setattr(run, "GRACE_SECONDS", 0.5)
    outcome, values, seconds = run.run_item(item, place, 1.0)
    assert (outcome, values) == ("cut off", {})
    assert seconds < 30
    monkeypatch.setattr(run, "command", lambda *_: [sys.executable, "-c", "raise OSError('why')"])
    outcome, values, _ = run.run_item(item, place, 30.0)
    assert outcome == "failed"
    assert values["last_words"].endswith("OSError: why\n")


def test_the_page_says_that_there_is_none_or_what_the_rows_say() -> None:
    page = script("page")
    assert page.PAGE.read_text(encoding="utf-8") == page.page(*page.read(page.ROWS))
    assert page.NONE_YET in page.page([], {})


def test_packed_images_are_the_same_files_with_labels_of_people(tmp_path: Path) -> None:
    """JPEG bytes come through unchanged, and `human_worst` names the same classes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rehearsal, pack = script("rehearsal"), script("pack")
    source = tmp_path / "source"
    rehearsal.images(source)
    train = pq.read_table(source / "train.parquet")
    labels = train["label"].to_numpy()
    human = pa.table({"label": labels, "human_worst": (labels + 1) % 3, "human_aggregate": labels})
    pq.write_table(human, source / "human_labels.parquet")
    pack.images(source, tmp_path / "packed")
    packed = pq.read_table(tmp_path / "packed" / "train.parquet")
    assert packed["img"].to_pylist() == train["img"].to_pylist()
    recipe = load_recipe(
        "cifar10-resnet18",
        ["data.source=auto", f"data.path={tmp_path / 'packed'}", "data.columns.label=human_worst",
         "data.columns.true_label=label"],
    )  # fmt: skip
    splits = load_splits(recipe.data, recipe.task)
    assert splits.classes == list(rehearsal.CLASSES)
    assert np.array_equal(splits.train.labels, (labels + 1) % 3)
    assert np.array_equal(splits.train.true_labels, labels)


def test_wheels_are_those_of_the_constraints() -> None:
    pack = script("pack")
    versions = pack.pinned()
    for name in pack.WHEELS:
        assert name.lower().replace("_", "-") in versions, f"{name} is not pinned"
