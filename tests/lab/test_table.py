"""`sama table`: nothing finished is lost or repeated, nothing of an older recipe is shown."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from samacli.errors import SamaError
from samacli.lab.table import run
from samacli.lab.table.description import TableSpec, built_in_tables, load_table
from samacli.lab.table.figures import Mean, blocks
from samacli.lab.table.page import page, sheet
from samacli.lab.table.plan import Cell, Choice, plan
from samacli.lab.table.rows import Ledger, Row, Store, says_the_same
from samacli.lab.table.run import Outcome, Schedule, Slot, left, run_table, seconds
from samacli.lab.table.runner import Options
from samacli.lab.workers import Here

Run = Callable[..., tuple[int, str, str]]
ONE = Options(device="cpu", threads=1, jobs=1)


@pytest.fixture
def file(texts: dict[str, Path], tiny_bert: Path, tmp_path: Path) -> Path:
    """A table of two settings that differ in the clean set, three methods and two seeds."""
    recipe = {
        "data": {
            "train": str(texts["noisy"]), "meta": str(texts["clean"]), "test": str(texts["test"]),
            "max_length": 16, "columns": {"true_label": None},
        },
        "model": {"name": str(tiny_bert)},
        "training": {"steps": 3, "batch_size": 8, "precision": "fp32"},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    content = {
        "name": "small",
        "title": "A small table",
        "seeds": [1, 2],
        "settings": [
            {"name": "all", "title": "All clean", "group": "words",
             "recipe": str(tmp_path / "recipe.yaml")},
            {"name": "few", "title": "Few clean", "group": "words",
             "recipe": str(tmp_path / "recipe.yaml"), "set": ["data.meta_per_class=5"]},
        ],
        "methods": ["noisy", "clean", "sama", {"name": "sama-slow", "method": "sama",
                                               "set": ["meta.unroll=2"]}],
    }  # fmt: skip
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def table(file: Path) -> TableSpec:
    return load_table(str(file))


@pytest.fixture
def store(tmp_path: Path, table: TableSpec) -> Store:
    store = Store(tmp_path / "results", table.name)
    store.check()
    return store


def row_of(cell: Cell, **changed: Any) -> Row:
    """A row as a run of that cell would give it."""
    values: dict[str, Any] = {
        "setting": cell.setting.name, "group": cell.setting.group, "method": cell.entry.name,
        "algorithm": cell.entry.method, "seed": cell.seed, "digest": cell.digest,
        "accuracy": 0.5, "macro_f1": 0.4, "recall": {"a": 0.3, "b": 0.5}, "noise": None,
        "seconds": 10.0, "wall_seconds": 12.0, "steps": 3, "samples_per_second": 5.0,
        "peak_memory_bytes": 2**20, "rows": {"train": 400, "meta": 60, "test": 90},
        "device": "cpu", "device_name": "a processor", "precision": "fp32", "threads": 1,
        "jobs": 1, "torch": "2", "transformers": "5", "samacli": "0", "commit": "abc",
        "finished": "2026-01-01T00:00:00+00:00", "rows_seen": 48, "code": "c0de",
    }  # fmt: skip
    return Row(**{**values, **changed})


class InstantSlot:
    """Answers without a process; `failing` says which titles fail, `done` what was run."""

    def __init__(self, failing: tuple[str, ...] = ()) -> None:
        self.failing, self.done = failing, []

    def __call__(self, *_: Any, **__: Any) -> InstantSlot:
        return self

    def run(self, cell: Cell) -> Row | str:
        if cell.title in self.failing:
            return "no such file"
        self.done.append(cell.title)
        return row_of(cell)

    def end(self) -> None:
        pass


def run_all(table: TableSpec, store: Store, slot: InstantSlot, **redo: bool) -> Outcome:
    rows, _ = store.read()
    ledger = Ledger(store, rows)
    return run_table(left(plan(table), ledger, **redo).runs, store, ledger, options=ONE, start=slot)


def test_a_method_without_a_clean_set_is_run_once_for_its_data_set(
    table: TableSpec, store: Store
) -> None:
    slot = InstantSlot()
    run_all(table, store, slot)
    assert sorted(slot.done) == sorted(
        f"{setting}, {method}, seed {seed}"
        for seed in (1, 2)
        for setting, methods in (
            ("all", ("noisy", "clean", "sama", "sama-slow")),
            ("few", ("clean", "sama", "sama-slow")),
        )
        for method in methods
    )
    assert slot.done[:4] == [
        f"all, {name}, seed 1" for name in ("noisy", "clean", "sama", "sama-slow")
    ]
    ledger = Ledger(store, store.read()[0])
    shown = blocks(table, plan(table), ledger)
    few = next(block for block in shown if block.setting.name == "few")
    noisy = few.line("noisy")
    assert noisy is not None
    assert sorted(noisy.rows) == [1, 2]
    assert "| noisy † |" in page(table, shown)


def test_a_clean_set_taken_out_of_another_split_concerns_every_method(table: TableSpec) -> None:
    def digests(override: str) -> set[str]:
        settings = [
            s.model_copy(update={"set": [*s.set, override, "data.meta_per_class=5"]})
            for s in table.settings[:1]
        ]
        cells = plan(table.model_copy(update={"settings": settings}))
        return {cell.digest for cell in cells if cell.entry.name == "noisy"}

    train = plan(table)[0].recipe.data.train
    assert digests("data.meta=elsewhere.csv") == {
        cell.digest for cell in plan(table) if cell.entry.name == "noisy"
    }
    assert digests(f"data.meta={train}") != digests("data.meta=elsewhere.csv")


def test_what_is_done_is_not_done_again(table: TableSpec, store: Store) -> None:
    first = InstantSlot(failing=("all, clean, seed 1", "few, clean, seed 1"))
    outcome = run_all(table, store, first)
    assert len(outcome.finished) == 12
    with pytest.raises(SamaError, match="2 of 14 runs failed") as error:
        outcome.check()
    assert "all, clean, seed 1 and 1 more: no such file" in str(error.value)
    before = store.file.read_bytes()
    second = InstantSlot()
    run_all(table, store, second)
    assert second.done == ["all, clean, seed 1", "few, clean, seed 1"]
    assert store.file.read_bytes().startswith(before)
    third = InstantSlot()
    run_all(table, store, third)
    assert third.done == []


def test_rows_of_an_older_recipe_are_not_shown_and_are_redone_on_demand(
    table: TableSpec, store: Store, file: Path
) -> None:
    run_all(table, store, InstantSlot())
    content = yaml.safe_load(file.read_text())
    recipe = Path(content["settings"][0]["recipe"])
    changed = yaml.safe_load(recipe.read_text())
    changed["meta"] = {"learning_rate": 0.5}  # concerns the SAMA family alone
    recipe.write_text(yaml.safe_dump(changed))

    ledger = Ledger(store, store.read()[0])
    found = left(plan(table), ledger)
    assert found.runs == []
    assert {cell.entry.name for cell in found.outdated} == {"sama", "sama-slow"}
    assert len(found.outdated) == 8
    text = page(table, blocks(table, plan(table), ledger), outdated=len(found.outdated))
    assert "8 runs of an older recipe or another precision left out" in text
    assert "| sama | – | – |" in text

    slot = InstantSlot()
    run_all(table, store, slot, redo_outdated=True)
    assert len(slot.done) == 8
    assert left(plan(table), Ledger(store, store.read()[0])).outdated == []


def test_a_table_that_names_a_precision_runs_in_it_and_shows_no_other(
    table: TableSpec, store: Store
) -> None:
    run_all(table, store, InstantSlot())
    before = plan(table)
    half = table.model_copy(update={"precision": "bf16"})
    cells = plan(half)
    assert {cell.recipe.training.precision for cell in before} == {"fp32"}
    assert {cell.recipe.training.precision for cell in cells} == {"bf16"}
    assert [cell.digest for cell in cells] == [cell.digest for cell in before]

    ledger = Ledger(store, store.read()[0])
    assert all(ledger.row(cell) is not None for cell in before)
    assert all(ledger.row(cell) is None for cell in cells)
    ledger.rows.append(row_of(cells[0], precision="bf16"))
    assert ledger.row(cells[0]) is not None


def test_a_newer_schema_does_not_outdate_rows() -> None:
    now = {"meta": {"unroll": 3, "batch_size": 32}, "model": {"config": {}}}
    assert says_the_same({"meta": {"unroll": 3}, "model": {"config": {}}}, now)
    assert not says_the_same({"meta": {"unroll": 2}}, now), "another value"
    assert not says_the_same({"meta": {"unroll": 3, "gone": 1}}, now), "a key that is no more"
    assert not says_the_same({"meta": {"unroll": 3}}, {"meta": {"unroll": 3, "batch_size": 33}}), (
        "a new key that does not have its default"
    )


def test_a_key_that_is_no_more_outdates_rows_where_it_said_something_else() -> None:
    now = {"meta": {"unroll": 3}, "model": {"config": {}}}
    assert says_the_same({"meta": {"unroll": 3, "hidden": 64}, "model": {"config": {}}}, now)
    assert not says_the_same({"meta": {"unroll": 3, "hidden": 65}, "model": {"config": {}}}, now)


def test_a_value_that_is_auto_now_is_what_it_comes_to() -> None:
    then = {"training": {"steps": 9, "epochs": 3.0}, "model": {"freeze": []}, "meta": {"unroll": 1}}
    now = {
        "training": {"steps": 9, "epochs": "auto"},
        "model": {"freeze": "auto"},
        "meta": {"unroll": "auto"},
    }
    settled = {"model.freeze": [], "meta.unroll": 1}
    assert says_the_same(then, now, settled)
    assert not says_the_same(then, now), "nobody says what it comes to"
    assert not says_the_same(then, now, settled | {"meta.unroll": 2})
    assert not says_the_same(then, now, settled | {"model.freeze": ["*"]})
    by_rows = {"training": {"steps": None, "epochs": 3.0}}
    auto = {"training": {"steps": None, "epochs": "auto"}}
    assert not says_the_same(by_rows, auto, {}), "three passes are not what the rows tell"
    assert says_the_same(auto, auto, {})


def test_a_row_of_an_older_schema_counts(table: TableSpec, store: Store) -> None:
    cell = plan(table)[0]
    older = json.loads(json.dumps(cell.concerning))
    del older["training"]["ema_decay"]
    store.append(row_of(cell, digest="0123456789ab"), older)
    assert left([cell], Ledger(store, store.read()[0])).runs == []


def test_what_changes_no_result_outdates_no_row(table: TableSpec, store: Store, file: Path) -> None:
    def with_overrides(*overrides: str) -> TableSpec:
        settings = [s.model_copy(update={"set": [*s.set, *overrides]}) for s in table.settings]
        return table.model_copy(update={"settings": settings})

    run_all(table, store, InstantSlot())
    free = (
        "track=[wandb]", "track_folder=elsewhere", "data.workers=3", "checkpoint.every_steps=7",
        "description=other words",
    )  # fmt: skip
    ledger = Ledger(store, store.read()[0])
    found = left(plan(with_overrides(*free)), ledger)
    assert (found.runs, found.outdated, found.done) == ([], [], 16)
    assert len(left(plan(with_overrides("training.steps=4")), ledger).outdated) == 14

    # Rows that were written down with such keys count as well.
    cell = plan(table)[0]
    then = {**cell.concerning, "track": ["wandb"], "track_folder": "x", "checkpoint": {"keep": 9}}
    then["data"] = {**then["data"], "workers": 5}
    assert says_the_same(then, cell.concerning)
    then["data"]["max_length"] = 17
    assert not says_the_same(then, cell.concerning)


def test_recipes_of_several_stores_are_in_one_file_in_order(table: TableSpec, store: Store) -> None:
    first, second = store, Store(store.file.parent, table.name)
    recipes = {"ffffffffffff": {"a": 1}, "123456789012": {"a": 2}, "5e5555555555": {"a": 3}}
    cell = plan(table)[0]
    for (digest, recipe), one in zip(recipes.items(), (first, second, first), strict=True):
        one.append(row_of(cell, digest=digest), recipe)
        one.append(row_of(cell, digest=digest), recipe)
    assert yaml.safe_load(store.recipes.read_text()) == recipes
    assert list(yaml.safe_load(store.recipes.read_text())) == sorted(recipes)
    assert Store(store.file.parent, table.name).recipe("123456789012") == {"a": 2}
    assert Store(store.file.parent, table.name).recipe("000000000000") is None
    store.recipes.write_text("a: [")
    with pytest.raises(SamaError, match=r"small-recipes\.yaml' cannot be read"):
        Store(store.file.parent, table.name).recipe("a")


def test_a_half_written_last_line_is_named_and_mended(table: TableSpec, store: Store) -> None:
    cells = plan(table)
    store.append(row_of(cells[0]), cells[0].concerning)
    whole = store.file.read_bytes()
    store.file.write_bytes(whole + whole[:40])
    rows, notes = store.read()
    assert [row.method for row in rows] == ["noisy"]
    assert len(notes) == 1
    assert "small.jsonl' line 2 is half-written" in notes[0]
    store.append(row_of(cells[1]), cells[1].concerning)
    rows, notes = store.read()
    assert [row.method for row in rows] == ["noisy", "clean"]
    assert notes == []
    # A whole line that only lacks its end is a row.
    store.file.write_bytes(whole[:-1])
    assert store.read() == (rows[:1], [])
    store.append(row_of(cells[1]), cells[1].concerning)
    assert store.read() == (rows, [])


def test_a_wrong_line_is_named(store: Store) -> None:
    store.file.write_text('{"setting": "all"}\n')
    with pytest.raises(SamaError, match=r"small\.jsonl' line 1 is no row"):
        store.read()


def test_a_row_that_cannot_be_written_ends_the_table(
    table: TableSpec, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    cell = plan(table)[0]
    store.append(row_of(cell), cell.concerning)
    before = store.file.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SamaError, match=r"small\.jsonl' cannot be written: No space left"):
        run_table([cell], store, Ledger(store, []), options=ONE, start=InstantSlot())
    assert store.file.read_bytes() == before


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (RuntimeError("CPU: you can't allocate memory"), "out of memory"),
        (ValueError("surprise"), "ValueError: surprise (a bug; --debug shows where)"),
    ],
)
def test_what_no_user_can_mend_is_called_a_bug_but_for_want_of_memory(
    table: TableSpec, monkeypatch: pytest.MonkeyPatch, raised: Exception, said: str
) -> None:
    class Failing(Here):
        alive = True

        def __init__(self, name: str, *_: Any, **__: Any) -> None:
            super().__init__(name, object)

        def ask(self, method: str, **named: object) -> list[Any]:
            def fail() -> None:
                raise raised

            return [self._tried(fail)]

    monkeypatch.setattr(run, "Worker", Failing)
    assert Slot(ONE, debug=False, warn=pytest.fail).run(plan(table)[0]) == said


def test_slots_keep_to_their_settings_and_seeds_come_one_after_another(table: TableSpec) -> None:
    schedule = Schedule(plan(table))
    first, second = schedule.next(0), schedule.next(1)
    assert first is not None
    assert second is not None
    assert (first.setting.name, second.setting.name) == ("all", "few")
    handed = [cell for slot in (0, 1) * 7 if (cell := schedule.next(slot)) is not None]
    assert [cell.seed for cell in handed] == [1] * 6 + [2] * 8
    assert {cell.setting.name for cell in handed[:6:2]} == {"all"}
    assert {cell.setting.name for cell in handed[1:6:2]} == {"few"}
    assert schedule.next(0) is None


def summed(mean: Mean | None) -> tuple[float, float | None, int]:
    assert mean is not None
    return mean.mean, mean.spread, len(mean.values)


def test_figures_are_of_the_right_rows(table: TableSpec, store: Store) -> None:
    accuracies = {
        ("noisy", 1): 0.5, ("noisy", 2): 0.7, ("clean", 1): 0.9, ("sama", 1): 0.8,
        ("sama", 2): 0.9,
    }  # fmt: skip
    ledger = Ledger(store, [])
    for cell in plan(table):
        if cell.setting.name == "all" and (cell.entry.name, cell.seed) in accuracies:
            noise = {"average_precision": 0.6, "auroc": 0.7, "noise_rate": 0.4}
            ledger.rows.append(
                row_of(
                    cell,
                    accuracy=accuracies[cell.entry.name, cell.seed],
                    seconds=30.0 if cell.entry.name == "sama" else 10.0,
                    noise=noise if cell.entry.name == "sama" else None,
                    recall={"a": 0.25, "b": 0.9} if cell.entry.name == "clean" else {"a": 0.3},
                    # Measured with fewer runs beside it: its time says nothing about the others'.
                    jobs=2 if (cell.entry.name, cell.seed) == ("sama", 2) else 1,
                )
            )
    block = blocks(table, plan(table), ledger)[0]
    sama, noisy, clean = (block.line(name) for name in ("sama", "noisy", "clean"))
    assert sama is not None
    assert noisy is not None
    assert clean is not None
    assert summed(sama.accuracy) == (pytest.approx(0.85), pytest.approx(0.0707107), 2)
    assert summed(noisy.lead) == (pytest.approx(0.25), pytest.approx(0.0707107), 2)
    assert noisy.lead is not None
    assert noisy.lead.error == pytest.approx(0.05)
    assert summed(clean.lead) == (pytest.approx(-0.1), None, 1), "over the seeds that both have"
    assert summed(sama.time) == (3.0, None, 1)
    assert block.best(clean)
    assert not block.best(sama)
    text = page(table, blocks(table, plan(table), ledger))
    assert (
        "| clean | **0.900** | 1 | **0.400** | 0.250 | -0.100 | – | – | – | 3 | 48 | 10.0 | 1.00 |"
        in text
    )
    assert "| sama | 0.850 ± 0.071 | 2 | **0.400 ± 0.000** | **0.300 ± 0.000** | – |" in text
    assert "`sama-slow` is `sama` with `meta.unroll=2`." in text
    line = next(x for x in sheet([block]).splitlines() if x.startswith("all,words,sama,"))
    assert ",0.85,0.0707107," in line


def test_the_page_of_a_users_table_knows_its_own_goals_and_nothing_of_this_project(
    table: TableSpec, store: Store, file: Path
) -> None:
    accuracies = {"noisy": 0.6, "clean": 0.7, "sama": 0.75, "sama-slow": 0.5}
    ledger = Ledger(store, [])
    for cell in plan(table, Choice(settings=["all"])):
        accuracy = accuracies[cell.entry.name] + 0.02 * cell.seed
        ledger.rows.append(row_of(cell, accuracy=accuracy))
    cells = plan(table, Choice(settings=["all"]))
    text = page(table, blocks(table, cells, ledger))
    assert "Goals" not in text
    assert "make " not in text
    assert "Made by `sama table` (" in text

    content = yaml.safe_load(file.read_text())
    content["made_by"] = "`make it`"
    content["goals"] = [
        {"text": "first of all", "over": "best"},
        {"text": "twice as good", "over": "noisy", "errors": 1000},
        {"text": "on wrong labels", "over": "noisy", "labels": "wrong"},
    ]
    file.write_text(yaml.safe_dump(content))
    table = load_table(str(file))
    lines = page(table, blocks(table, plan(table, Choice(settings=["all"])), ledger)).splitlines()
    assert any(line.startswith("Made by `make it` (") for line in lines)
    at = lines.index("- first of all: **met**, 1 of 1 place")
    # The same difference with both seeds: its standard error is 0, up to rounding.
    assert lines[at + 1] == "- twice as good: **met**, 1 of 1 place"
    assert lines[at + 2] == "", "a goal without a place says nothing"


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ({"text": "a", "over": "noisi"}, "which is no method of the table; did you mean 'noisy'"),
        ({"text": "a"}, "whom to lead (over) or how long scoring may take"),
        ({"text": "a", "over": "best", "scoring": 1}, "whom to lead (over) or how long"),
        ({"text": "a", "over": "best", "label": "all"}, "unknown key goals.0.label"),
    ],
)
def test_a_wrong_goal_is_refused_by_name(file: Path, goal: dict[str, Any], said: str) -> None:
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "goals": [goal]}))
    with pytest.raises(SamaError) as error:
        load_table(str(file))
    assert said in str(error.value)


def test_times_are_estimated_by_the_nearest_rows(table: TableSpec, store: Store) -> None:
    cells = {(c.setting.name, c.entry.name, c.seed): c for c in plan(table)}
    ledger = Ledger(store, [])
    assert seconds(cells["all", "sama", 2], ledger) is None
    ledger.rows.append(row_of(cells["all", "noisy", 1], wall_seconds=10.0))
    assert seconds(cells["all", "sama", 2], ledger) == 10.0
    ledger.rows.append(row_of(cells["few", "sama", 1], wall_seconds=40.0))
    assert seconds(cells["all", "sama", 2], ledger) == 40.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sets": 1}, "unknown key sets"),
        ({"seeds": [1, 1]}, "seeds should be different"),
        ({"seeds": []}, "seeds"),
        ({"methods": ["noisy", "noisy"]}, "the name 'noisy' stands twice"),
        ({"methods": ["noisi"]}, "no method 'noisi'; did you mean 'noisy'"),
        ({"methods": [{"name": "sama", "set": ["meta.unrol=1"]}]}, "did you mean 'meta.unroll'"),
    ],
)
def test_a_wrong_table_is_refused_by_name(file: Path, change: dict[str, Any], said: str) -> None:
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(SamaError) as error:
        plan(load_table(str(file)))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_choices_are_refused_by_name(run_sama: Run, file: Path, tmp_path: Path) -> None:
    for options, said in (
        (["--only", "fev"], "has no setting 'fev'; did you mean 'few'"),
        (["--methods", "nosy"], "has no method 'nosy'; did you mean 'noisy'"),
        (["--seeds", "one"], "--seeds 'one' is not a whole number"),
        (["--seed", "1"], "give --seeds"),
    ):
        code, _, err = run_sama("table", file, *options, "-o", tmp_path / "out")
        assert code == 2
        assert said in err
    code, _, err = run_sama("table", "txt")
    assert code == 2
    assert "no table 'txt'; did you mean 'text'" in err


def test_data_may_lie_elsewhere_without_outdating_rows() -> None:
    table = load_table("text")
    here, there = plan(table), plan(table, Choice(data=Path("../shared/data")))
    assert here[0].recipe.data.path == "data/trec"
    assert there[0].recipe.data.path == "../shared/data/trec"
    assert [cell.digest for cell in here] == [cell.digest for cell in there]


def test_built_in_tables_can_be_planned() -> None:
    for name in built_in_tables():
        assert plan(load_table(name))


def sama(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "samacli", *map(str, arguments)]


def test_a_table_killed_in_the_middle_goes_on_where_it_was(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    command = sama(
        "table", file, "--methods", "noisy,sama", "--jobs", "2", "--threads", "1",
        "--device", "cpu", "-o", out,
    )  # fmt: skip
    rows_file = out / "small.jsonl"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _wait(lambda: rows_file.is_file() and rows_file.stat().st_size > 0)
        workers = _children(process.pid)
        assert workers
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    _wait(lambda: not any(_alive(pid) for pid in workers))
    before = rows_file.read_bytes()
    finished = before.count(b"\n")
    assert 0 < finished < 6

    dry = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=True)
    assert f"{6 - finished} runs left" in dry.stdout
    subprocess.run(command, check=True, capture_output=True)
    after = rows_file.read_bytes()
    assert after.startswith(before)
    rows = [json.loads(line) for line in after.splitlines()]
    assert len({(row["setting"], row["method"], row["seed"]) for row in rows}) == len(rows) == 6
    assert all(row["threads"] == 1 for row in rows)
    recipes = yaml.safe_load((out / "small-recipes.yaml").read_text())
    assert list(recipes) == sorted({row["digest"] for row in rows})
    for ending in ("md", "csv", "png"):
        assert (out / f"small.{ending}").stat().st_size > 0
    # Both settings show the same run of noisy.
    lines = (out / "small.csv").read_text().splitlines()
    noisy = [line.split(",")[7:] for line in lines if ",noisy," in line]
    assert noisy[0] == noisy[1]


def test_an_interrupted_table_keeps_its_rows_and_leaves_no_process(
    file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    process = subprocess.Popen(
        sama("table", file, "--jobs", "1", "--device", "cpu", "--seeds", "7", "-o", out),
        stderr=subprocess.PIPE,
        text=True,
        # a shell that runs the tests in the background has its children ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    rows_file = out / "small.jsonl"
    _wait(lambda: rows_file.is_file() and rows_file.stat().st_size > 0)
    workers = _children(process.pid)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; finished runs are in" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not any(_alive(pid) for pid in workers)
    rows, notes = Store(out, "small").read()
    assert rows
    assert notes == []


def test_the_page_is_of_the_whole_table_whatever_part_is_run(
    run_sama: Run, file: Path, table: TableSpec, store: Store
) -> None:
    folder = store.file.parent
    code, _, err = run_sama("table", file, "--render", "-o", folder)
    assert code == 2
    assert "there are no rows" in err

    def page_for(*options: str) -> str:
        code, _, err = run_sama("table", file, "--render", *options, "-o", folder)
        assert code == 0, err
        return (folder / "small.md").read_text()

    for seed in (7, 1):
        for cell in plan(table, Choice(seeds=[seed], methods=["sama"])):
            store.append(row_of(cell), cell.concerning)
        if seed == 7:  # a trial with seeds that are not the table's
            assert "Seeds 7;" in page_for("--seeds", "7")
    assert "Seeds 1;" in page_for("--seeds", "7", "--only", "few")


def test_a_failing_run_is_reported_and_the_others_go_on(file: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(file.read_text())
    content["settings"][1]["set"] = ["data.meta=nowhere.csv"]
    file.write_text(yaml.safe_dump(content))
    out = tmp_path / "results"
    done = subprocess.run(
        sama("table", file, "--methods", "clean", "--seeds", "1", "--device", "cpu", "-o", out),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "1 of 2 runs failed" in done.stderr
    assert "few, clean, seed 1: " in done.stderr
    assert "nowhere.csv" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert (out / "small.jsonl").read_bytes().count(b"\n") == 1
    assert (out / "small.md").is_file()


def test_a_row_reads_back_as_it_was_written(table: TableSpec) -> None:
    row = row_of(plan(table)[0])
    assert Row.from_dict({**row.as_dict(), "new": 1}) == row
    assert dataclasses.replace(row, jobs=2).place != row.place


def _wait(done: Callable[[], bool], seconds: float = 180.0) -> None:
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends, "it takes too long"
        time.sleep(0.05)


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
