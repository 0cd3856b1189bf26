"""The rules of a comparison in `sama table`: equal time, fresh data, roles, and the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from samacli.errors import SamaError
from samacli.lab.table import code
from samacli.lab.table.description import TableSpec, load_table
from samacli.lab.table.draws import dealt
from samacli.lab.table.figures import blocks
from samacli.lab.table.page import page, sheet
from samacli.lab.table.past import Past
from samacli.lab.table.plan import Cell, plan
from samacli.lab.table.rows import Ledger, Row, Store
from samacli.lab.table.run import left, run_table
from samacli.lab.table.runner import Options, Runner
from samacli.recipe import load_recipe
from samacli.recipe.schema import Data
from samacli.registry import METHODS
from tests.conftest import sentences, write_csv
from tests.lab.test_table import row_of

ONE = Options(device="cpu", threads=1, jobs=1)
METHODS_HERE = ["noisy", "mixed", "linear-probe", "sama"]


def table_of(tmp_path: Path, files: dict[str, Path], model: Path, **content: Any) -> TableSpec:
    recipe = {
        "data": {
            "train": str(files["noisy"]), "meta": str(files["clean"]), "test": str(files["test"]),
            "max_length": 16, "columns": {"true_label": "truth"}, "meta_per_class": 5,
        },
        "model": {"name": str(model)},
        "training": {"steps": 3, "batch_size": 8, "precision": "fp32"},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    described = {
        "name": "rules", "title": "Rules", "seeds": [1, 2], "methods": METHODS_HERE,
        "settings": [{"name": "few", "title": "Few clean", "group": "words",
                      "recipe": str(tmp_path / "recipe.yaml")}],
    }  # fmt: skip
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({**described, **content}))
    return load_table(str(tmp_path / "rules.yaml"))


@pytest.fixture
def files(texts: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    """All three with the same columns, so that a row may be of any split."""
    found = {}
    for number, (name, path) in enumerate(texts.items()):
        rows = [(text, label, label) for text, label in sentences(30, seed=number)]
        found[name] = write_csv(tmp_path / path.name, rows, ("text", "label", "truth"))
    return found


@pytest.fixture
def model(tiny_bert: Path) -> Path:
    return tiny_bert


class Timed:
    """Answers each run with what it was asked for; ours takes three times as long."""

    def __init__(self, **changed: Any) -> None:
        self.asked: list[Cell] = []
        self.changed = changed

    def __call__(self, *_: Any, **__: Any) -> Timed:
        return self

    def run(self, cell: Cell) -> Row | str:
        self.asked.append(cell)
        if cell.title in self.changed.get("failing", ()):
            return "no such file"
        steps = cell.recipe.training.steps or 0
        ours = cell.entry.name == "sama"
        place = {"threads": 2} if ours and self.changed.get("elsewhere") else {}
        return row_of(cell, steps=steps, seconds=(30.0 if ours else 10.0) * steps / 3, **place)

    def end(self) -> None:
        pass


def run_all(table: TableSpec, store: Store, slot: Timed) -> tuple[Ledger, list[tuple[str, str]]]:
    store.check()
    ledger = Ledger(store, store.read()[0])
    outcome = run_table(left(plan(table), ledger).runs, store, ledger, options=ONE, start=slot)
    return ledger, [(cell.title, why) for cell, why in outcome.failed]


# Equal time


def test_every_rival_is_trained_for_as_long_as_ours_took(
    tmp_path: Path, files: dict[str, Path], model: Path
) -> None:
    table = table_of(tmp_path, files, model, equal_time=True)
    store, slot = Store(tmp_path, table.name), Timed()
    ledger, failed = run_all(table, store, slot)
    assert failed == []
    asked = [(cell.entry.name, cell.seed, cell.recipe.training.steps) for cell in slot.asked]
    assert asked[:8] == [(name, seed, 3) for seed in (1, 2) for name in METHODS_HERE]
    # A probe takes no steps that could be more.
    assert asked[8:] == [(f"{name}@sama", s, 9) for s in (1, 2) for name in ("noisy", "mixed")]
    # The same command has nothing left to do.
    again = Timed()
    run_all(table, store, again)
    assert again.asked == []
    shown = blocks(table, plan(table), ledger)
    noisy = shown[0].line("noisy")
    assert noisy is not None
    assert noisy.timed is not None
    assert {row.steps for row in noisy.rows.values()} == {3}
    assert {row.steps for row in noisy.timed.rows.values()} == {9}
    assert [line.entry.name for line in shown[0].lines] == METHODS_HERE
    text = page(table, shown)
    assert "## `sama` minus each other method in the same time" in text
    ending = "| 0.500 ± 0.000 | +0.000 ± 0.000 | 9 | 48 | 30.0 ± 0.0 |"
    assert any(line.startswith("| noisy") and line.endswith(ending) for line in text.split("\n"))
    assert "accuracy_in_our_time" in sheet(shown)


def test_the_steps_that_ours_took_are_stretched_where_the_recipe_counts_in_epochs(
    tmp_path: Path, files: dict[str, Path], model: Path
) -> None:
    table = table_of(tmp_path, files, model, equal_time=True, methods=["noisy", "sama"], seeds=[1])
    setting = table.settings[0].model_copy(
        update={"set": ["training.steps=null", "training.epochs=4"]}
    )
    table = table.model_copy(update={"settings": [setting]})

    class Slow(Timed):
        def run(self, cell: Cell) -> Row | str:
            self.asked.append(cell)
            slow = cell.entry.name == "sama"
            return row_of(cell, seconds=25.0 if slow else 10.0, steps=40)

    slot = Slow()
    run_all(table, Store(tmp_path, table.name), slot)
    assert slot.asked[-1].entry.name == "noisy@sama"
    assert slot.asked[-1].recipe.training.steps == 100


def test_where_it_is_not_known_how_long_ours_took_nothing_is_made_up(
    tmp_path: Path, files: dict[str, Path], model: Path
) -> None:
    table = table_of(tmp_path, files, model, equal_time=True, methods=["noisy", "sama"], seeds=[1])
    store = Store(tmp_path, table.name)
    slot = Timed(failing=["few, sama, seed 1"])
    _, failed = run_all(table, store, slot)
    assert dict(failed)["few, noisy@sama, seed 1"].endswith("without the run of sama")
    _, failed = run_all(table, store, Timed(elsewhere=True))
    assert "of different machines" in dict(failed)["few, noisy@sama, seed 1"]


def test_another_setting_of_ours_outdates_what_was_timed_by_it(
    tmp_path: Path, files: dict[str, Path], model: Path
) -> None:
    table = table_of(tmp_path, files, model, equal_time=True)
    store = Store(tmp_path, table.name)
    ledger, _ = run_all(table, store, Timed())
    setting = table.settings[0].model_copy(update={"set": ["meta.unroll=5"]})
    changed = plan(table.model_copy(update={"settings": [setting]}))
    lacking = {cell.entry.name for cell in changed if ledger.row(cell) is None}
    assert lacking == {"sama", "noisy@sama", "mixed@sama"}


def test_what_concerns_a_method_is_what_it_reads(
    tmp_path: Path, files: dict[str, Path], model: Path
) -> None:
    table = table_of(tmp_path, files, model, methods=["noisy", "mixed", "no-meta-steps", "sama"])

    def moved_by(override: str) -> set[str]:
        setting = table.settings[0].model_copy(update={"set": [override]})
        changed = plan(table.model_copy(update={"settings": [setting]}))
        return {
            now.entry.name
            for then, now in zip(plan(table), changed, strict=True)
            if then.digest != now.digest
        }

    assert moved_by("reweight.clean_share=0.25") == {"mixed", "no-meta-steps", "sama"}
    assert moved_by("reweight.correction=true") == {"no-meta-steps", "sama"}
    assert moved_by("meta.unroll=7") == {"no-meta-steps", "sama"}


# Fresh data


def test_each_seed_has_data_of_its_own_and_roles_share_none(
    tmp_path: Path, files: dict[str, Path], model: Path
) -> None:
    seeds: dict[Any, list[int]] = {}
    for role in ("development", "reporting"):
        for draw in (7, 8):
            table = table_of(tmp_path, files, model, role=role, draws={"seed": draw})
            cells = plan(table)
            assert len({cell.digest for cell in cells if cell.entry.name == "noisy"}) == 1
            assert {cell.draw for cell in cells} == {f"{role} {draw}"}
            seeds[role, draw] = [c.recipe.data.seed for c in cells if c.entry.name == "noisy"]
            assert all(cell.recipe.data.meta_seed is None for cell in cells)
    drawn = [seed for found in seeds.values() for seed in found]
    assert len(set(drawn)) == len(drawn) == 8
    as_it_comes = plan(table_of(tmp_path, files, model))
    kept = plan(table_of(tmp_path, files, model, draws={"seed": 7, "splits": False}))
    assert {c.digest for c in as_it_comes}.isdisjoint(c.digest for c in kept)
    assert not any(cell.dealt for cell in kept)
    assert all(cell.dealt for cell in cells)


def test_splits_are_dealt_out_anew_and_no_row_is_lost(files: dict[str, Path]) -> None:
    data = Data(
        train=str(files["noisy"]), meta=str(files["clean"]), test=str(files["test"]),
        columns={"true_label": "truth"},
    )  # fmt: skip
    first, again, other = dealt(data, 1), dealt(data, 1), dealt(data, 2)
    before = {name: path.read_text().count("\n") - 1 for name, path in files.items()}
    assert {name: len(table.rows) for name, table in first.items()} == {
        str(files[name]): before[name] for name in ("noisy", "clean", "test")
    }
    texts = {name: table.rows["text"][:] for name, table in first.items()}
    assert texts == {name: table.rows["text"][:] for name, table in again.items()}
    assert texts != {name: table.rows["text"][:] for name, table in other.items()}
    everything = sorted(line.split(",")[0] for p in files.values()
                        for line in p.read_text().split("\n")[1:] if line)  # fmt: skip
    assert sorted(text for found in texts.values() for text in found) == everything


def test_rows_whose_true_label_is_not_known_are_no_test_rows(files: dict[str, Path]) -> None:
    given = {"train": str(files["noisy"]), "test": str(files["test"])}
    with pytest.raises(SamaError, match=r"true labels .*draws\.splits: false"):
        dealt(Data(**given), 0)
    # Where the recipe makes labels wrong itself, it takes them for right before.
    assert dealt(Data(**given, noise={"kind": "symmetric", "rate": 0.2}), 0)


def test_a_run_of_drawn_data_is_measured_on_them(
    tmp_path: Path, files: dict[str, Path], model: Path
) -> None:
    table = table_of(tmp_path, files, model, role="reporting", draws={"seed": 7})
    cells = [cell for cell in plan(table) if cell.entry.name == "mixed"]
    runner = Runner(ONE, lambda message: None)
    rows = [runner.run(cell) for cell in cells]
    assert [row.rows["test"] for row in rows] == [30, 30]
    assert [row.draw for row in rows] == ["reporting 7"] * 2
    assert rows[0].rows_seen == 3 * (8 + 8)
    assert rows[0].code == rows[1].code == code.code_of(METHODS["mixed"].where)


def test_development_reads_no_test_split(
    tmp_path: Path, files: dict[str, Path], model: Path
) -> None:
    """Held-out training rows stand in for it, or a validation split of its own."""
    held_out = write_csv(
        tmp_path / "held_out.csv",
        [(text, label, label) for text, label in sentences(12, seed=9)],
        ("text", "label", "truth"),
    )
    table = table_of(tmp_path, files, model, role="development", draws={"seed": 7}, seeds=[1])
    files["test"].unlink()
    runner = Runner(ONE, lambda message: None)
    row = runner.run(plan(table)[0])
    pooled = 30 + 30
    assert row.rows["test"] + row.rows["train"] + 3 * 5 <= pooled
    assert row.rows["test"] > 0
    setting = table.settings[0].model_copy(update={"set": [f"data.validation={held_out}"]})
    table = table.model_copy(update={"settings": [setting]})
    assert runner.run(plan(table)[0]).rows["test"] == 12


# The ledger


@pytest.fixture
def lines(tmp_path: Path, files: dict[str, Path], model: Path) -> Any:
    table = table_of(tmp_path, files, model, methods=["noisy", "sama"], draws={"seed": 7})
    store = Store(tmp_path, table.name)
    store.check()

    def judge(*rows: dict[str, Any], now: str = "c0de") -> dict[str, Past]:
        cells = {cell.entry.name: cell for cell in plan(table) if cell.seed == 1}
        made = []
        for changed in rows:
            cell = cells[changed.pop("method")]
            made.append(row_of(cell, **changed))
        known = blocks(table, plan(table), Ledger(store, made), {"noisy": now, "sama": now})
        text = page(table, known)
        assert ("‡ after" in text) == any(line.past.seen for line in known[0].lines)
        assert ("§ since" in text) == any(line.past.changed for line in known[0].lines)
        return {line.entry.name: line.past for line in known[0].lines}

    return judge


EARLY, LATE = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


def test_a_method_that_was_changed_after_its_rows_were_seen_is_told(lines: Any) -> None:
    # Its code; its settings (another digest); neither; on other draws.
    assert lines(
        {"method": "sama", "code": "old", "finished": EARLY}, {"method": "sama", "finished": LATE}
    )["sama"] == Past(seen=True)
    assert lines(
        {"method": "sama", "digest": "other", "finished": EARLY},
        {"method": "sama", "finished": LATE},
    )["sama"] == Past(seen=True)
    assert lines({"method": "sama", "finished": EARLY}, {"method": "sama", "finished": LATE})[
        "sama"
    ] == Past()  # fmt: skip
    assert (
        lines(
            {"method": "sama", "code": "old", "draw": "reporting 8", "finished": EARLY},
            {"method": "sama", "finished": LATE},
        )["sama"]
        == Past()
    )


def test_rows_of_code_that_has_changed_since_are_told(lines: Any) -> None:
    found = lines({"method": "sama"}, {"method": "noisy", "code": None}, now="newer")
    assert found == {"noisy": Past(unknown=True), "sama": Past(changed=True)}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The package's text somewhere else, where it may be changed."""
    folder = tmp_path / "samacli"
    shutil.copytree(code._ROOT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    caches = (code.code_of, code._files, code._part)
    monkeypatch.setattr(code, "_ROOT", folder)
    for cache in caches:
        cache.cache_clear()
    yield folder
    for cache in caches:
        cache.cache_clear()


def test_the_hash_of_a_methods_code_changes_with_it_and_no_other(copy: Path) -> None:
    names = ["noisy", "elr", "mixed", "forward-correction", "sama"]

    def hashes() -> np.ndarray:
        for cache in (code.code_of, code._files, code._part):
            cache.cache_clear()
        return np.array([code.code_of(METHODS[name].where) for name in names])

    def changed(file: str, old: str, new: str) -> list[str]:
        before, path = hashes(), copy / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))
        return [name for name, moved in zip(names, hashes() != before, strict=True) if moved]

    trained = "methods/trained.py"
    assert changed(trained, '"""The training split as it is given."""', '"""Other words."""') == []
    assert changed(trained, "def elr(", "# a comment\n\n\ndef elr(") == []
    assert changed(trained, "half = max(1, steps // 2)", "half = max(1, steps // 3)") == []
    assert changed(trained, "experiment.accelerator.gather", "None") == ["elr"]
    told = "told, told_of = splits.told_of_clean"
    more = f"{told}\n    told = told + 0"
    assert changed("methods/sama.py", told, more) == ["forward-correction", "sama"]
    assert changed("bilevel/level.py", "AVERAGE_FROM = 0.5", "AVERAGE_FROM = 0.6") == ["sama"]
    assert changed("training/loop.py", "_READ_EVERY = 20", "_READ_EVERY = 21") == names
    assert changed("report/numbers.py", "from __future__ import annotations\n",
                   "from __future__ import annotations\n\nADDED = 1\n") == []  # fmt: skip


def test_the_built_in_table_of_the_rules_keeps_them() -> None:
    table = load_table("protocol")
    assert table.role == "reporting"
    assert table.equal_time
    assert table.draws is not None
    names = {entry.name for entry in table.methods}
    assert {"mixed", "forward-correction", "no-meta-steps", "sama-then-clean"} <= names
    assert load_recipe("trec").reweight.clean_share > 0
