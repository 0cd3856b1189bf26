"""What a benchmark's worker and parent are made of, in this process."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from samacli.errors import SamaError
from samacli.lab.bench import Contender, Row, Setting, contenders, settings
from samacli.lab.bench.breakdown import breakdown
from samacli.lab.bench.contenders import ESTIMATORS
from samacli.lab.bench.derivatives import FORMS, PRECISIONS, derivatives
from samacli.lab.bench.memory import PeakMemory
from samacli.lab.bench.models import REHEARSAL
from samacli.lab.bench.plot import plot
from samacli.lab.bench.replicas import Replica
from samacli.lab.bench.row import empty_row, median_and_quartiles
from samacli.lab.bench.steps import Sama, steps_of
from samacli.lab.bench.work import Work
from samacli.lab.bench.worker import Task, sentence
from samacli.meta import direction
from samacli.store.output import written

HERE = Replica(0, 1, torch.device("cpu"))


def setting(unroll: int = 1, precision: str = "fp32") -> Setting:
    return Setting(REHEARSAL, 4, 8, unroll, 1, "cpu", precision, 0)


def work(unroll: int = 1, precision: str = "fp32") -> Work:
    return Work(setting(unroll, precision), HERE)


def values(module: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()


@pytest.mark.parametrize(
    "name",
    ["sama", "sama-na", "sama:riding", "sama:sharing", "sama:apart", "neumann", "cg", "unrolled"],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_estimator_trains_both_levels(name: str, precision: str) -> None:
    own = work(precision=precision)
    model, meta = values(own.model), values(own.meta)
    contender = contenders([name], [1])[1]
    steps_of(contender, own).run(3)
    assert not torch.equal(values(own.model), model)
    assert not torch.equal(values(own.meta), meta)
    assert values(own.meta).isfinite().all()


def test_plain_training_has_no_meta_level() -> None:
    own = work()
    meta = values(own.meta)
    steps_of(Contender("plain"), own).run(3)
    assert torch.equal(values(own.meta), meta)


def test_a_meta_step_every_unroll_base_steps() -> None:
    own = work(unroll=3)
    meta = values(own.meta)
    steps = steps_of(Contender("sama", "sharing"), own)
    steps.run(3)  # the direction is taken, the next base step makes use of it
    assert torch.equal(values(own.meta), meta)
    steps.run(1)
    assert not torch.equal(values(own.meta), meta)


def test_all_start_from_the_same_model_and_see_the_same_batches() -> None:
    a, b = work(), work()
    assert torch.equal(values(a.model), values(b.model))
    assert torch.equal(values(a.meta), values(b.meta))
    for _ in range(3):
        x, y = next(a.batches), next(b.batches)
        assert all(torch.equal(x[name], y[name]) for name in x)
    other = next(Work(setting(), replace(HERE, rank=1)).batches)
    assert not torch.equal(other["input_ids"], next(work().batches)["input_ids"])


def test_the_forms_agree_on_the_meta_gradient() -> None:
    found = {}
    for form in ("riding", "sharing"):
        own = work()
        own.model.eval()
        steps = Sama(own, "sama", form)
        steps.step(next(own.batches), meta_due=False)
        at = direction(own.problem, next(own.meta_batches))
        own.optimizer.zero_grad()
        _, gradients = steps.passes(next(own.batches), at)
        found[form] = torch.cat([g.reshape(-1) for g in gradients])
    # One is exact; the other a one-sided difference, after a first step of Adam.
    error = (found["riding"] - found["sharing"]).norm() / found["riding"].norm()
    assert error < 5e-2


@pytest.mark.parametrize("form", ["riding", "sharing", "apart"])
def test_the_breakdown_has_every_part(form: str) -> None:
    own = work()
    steps = Sama(own, "sama", form)
    steps.run(2)
    parts = breakdown(steps, repeats=2)
    assert set(parts) == {
        "base_forward",
        "base_backward",
        "optimizer_step",
        "meta_backward",
        "adaptation",
        "derivative",
        "meta_update",
    }
    assert all(seconds > 0 for name, seconds in parts.items() if name != "derivative")


def test_exact_forms_of_derivative_are_exact() -> None:
    own = work()
    rows = {(row.form, row.precision): row for row in derivatives(own)}
    assert set(rows) == {(form, precision) for form in FORMS for precision in PRECISIONS}
    for form in ("forward", "contraction"):
        error = rows[form, "fp32"].error
        assert error is not None
        assert error < 1e-3
    assert all(row.relative_cost > 0 for row in rows.values())
    assert all(p.dtype == torch.float32 for p in own.model.parameters())
    state = next(iter(own.optimizer.state.values()))
    assert state["exp_avg"].dtype == torch.float32


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux")
def test_peak_memory_is_that_of_tensors() -> None:
    peak = PeakMemory(torch.device("cpu"))
    size = 64 << 20
    torch.ones(size, dtype=torch.uint8)
    assert peak.bytes() == pytest.approx(size, rel=0.1)
    again = PeakMemory(torch.device("cpu"))
    assert again.bytes() < size / 10


@pytest.mark.parametrize(
    ("names", "world_sizes", "words"),
    [
        (["samma"], [1], "did you mean 'sama'?"),
        (["sama:rideing"], [1], "did you mean 'riding'?"),
        (["cg:riding"], [1], "only sama and sama-na have forms"),
    ],
)
def test_unknown_estimators_are_refused(
    names: list[str], world_sizes: list[int], words: str
) -> None:
    with pytest.raises(SamaError, match="--estimators") as caught:
        contenders(names, world_sizes)
    assert words in str(caught.value)


@pytest.mark.skipif(importlib.util.find_spec("betty") is not None, reason="Betty is installed")
def test_without_betty_it_takes_no_part_and_asking_for_it_is_refused() -> None:
    assert [c.estimator for c in contenders(None, [1])] == list(ESTIMATORS[:6])
    with pytest.raises(SamaError, match="needs a Betty that has it, and none is installed"):
        contenders(["betty-sama"], [1])


@pytest.mark.skipif(importlib.util.find_spec("betty") is None, reason="Betty is not installed")
def test_betty_trains_both_levels_on_the_same_work() -> None:
    for contender in contenders(None, [1])[6:]:
        own = work()
        model, meta = values(own.model), values(own.meta)
        steps_of(contender, own).run(3)
        assert not torch.equal(values(own.model), model)
        assert not torch.equal(values(own.meta), meta)


def test_plain_training_comes_first_and_once() -> None:
    assert [c.name for c in contenders(["sama:riding", "plain", "cg", "cg"], [1])] == [
        "plain",
        "sama:riding",
        "cg",
    ]


def make_settings(**changes: object) -> list[Setting]:
    arguments: dict[str, object] = {
        "batch_size": 2,
        "sequence_length": 8,
        "device": "cpu",
        "precision": "fp32",
        "seed": 0,
        "models": ["bert-tiny"],
        "unrolls": [1],
        "world_sizes": [1],
        **changes,
    }
    return settings(**arguments)  # type: ignore[arg-type]


def test_every_combination_is_a_setting() -> None:
    found = make_settings(models=["bert-tiny", "minilm"], unrolls=[1, 4], world_sizes=[1, 2])
    assert len(found) == 8
    assert found[0].name == "bert-tiny, unroll 1, 1 process"
    assert found[-1].name == "minilm, unroll 4, 2 processes"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": []}, "--model names no model"),
        ({"models": ["bert-hgue"]}, "nor one of bert-tiny"),
        ({"models": ["./nowhere"]}, "does not exist"),
        ({"models": ["resnet8-small"]}, "reads images"),
        ({"sequence_length": 600}, "--sequence-length 600 is more than the 512 positions"),
        ({"device": "cuda"}, "--device cuda"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], words: str) -> None:
    if "device" in changes and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SamaError) as caught:
        make_settings(**changes)
    assert words in str(caught.value)


def test_a_task_survives_the_journey() -> None:
    task = Task(1234, "name", setting(), Contender("sama", "riding"))
    assert Task.from_json(task.to_json()) == task


def test_failures_are_one_line() -> None:
    assert sentence(SamaError("do this")) == "do this"
    assert sentence(torch.OutOfMemoryError("CUDA out of memory. Tried …")) == "out of memory"
    assert sentence(RuntimeError("\nfirst\nsecond")) == "RuntimeError: first"


def test_quartiles() -> None:
    assert median_and_quartiles([2.0]) == (2.0, [2.0, 2.0])
    assert median_and_quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, [2.0, 4.0])


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text("old")

    def fail() -> None:
        with written(file) as stage:
            stage.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert file.read_text() == "old"
    with written(file) as stage:
        stage.write_text("new")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def filled(setting: Setting, name: str, parameters: int, throughput: float) -> Row:
    return replace(
        empty_row(setting, Contender(name), {"parameters": parameters, "threads": 1}),
        relative_throughput=throughput,
        relative_memory=1 / throughput,
    )


@pytest.mark.parametrize("varied", [False, True])
def test_the_plot_is_drawn_also_where_something_failed(varied: bool, tmp_path: Path) -> None:
    rows = []
    for model, parameters in (("bert-tiny", 4_000_000), ("minilm", 22_000_000))[: 1 + varied]:
        for unroll in (1, 10)[: 1 + varied]:
            where = replace(setting(unroll), model=model)
            rows += [
                filled(where, "plain", parameters, 1.0),
                filled(where, "sama", parameters, 0.5),
            ]
            rows.append(replace(empty_row(where, Contender("cg"), {}), error="out of memory"))
    plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    json.dumps([row.as_dict() for row in rows], allow_nan=False)
