"""What a benchmark's worker and parent are made of, in this process."""

from __future__ import annotations

import copy
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread as image
from torch.nn.functional import cross_entropy

from samacli.errors import SamaError
from samacli.lab.bench.measures import DERIVATIVES, PRECISIONS, PeakMemory, breakdown, derivatives
from samacli.lab.bench.plot import plot
from samacli.lab.bench.run import median_and_quartiles, unmeasured
from samacli.lab.bench.steps import ESTIMATORS, Contender, Sama, contenders, steps_of
from samacli.lab.bench.work import Replica, Work
from samacli.lab.bench.workload import REHEARSAL, Measurement, Workload, workloads
from samacli.lab.workers import sentence
from samacli.meta import direction
from samacli.store.output import written
from samacli.training.objective import Batch

HERE = Replica(0, 1, torch.device("cpu"))


def load(unroll: int = 1, precision: str = "fp32") -> Workload:
    return Workload(REHEARSAL, 4, 8, unroll, 1, "cpu", precision, 0)


def work(unroll: int = 1, precision: str = "fp32") -> Work:
    return Work(load(unroll, precision), HERE)


def values(module: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()


UNROLL = 3  # the optimiser's state is then more than its first gradient


def base_steps(own: Work, batches: list[Batch], *, weighted: bool) -> tuple[Any, list[Any]]:
    """θ in float64 after AdamW's steps on these batches, by `torch.optim` and the formula of w.

    And for each parameter what ∂u/∂g takes: lr, betas, eps, step, moments before it, gradient.
    """
    model = copy.deepcopy(own.model).double()
    net = copy.deepcopy(own.meta).double()
    names = {p: name for name, p in own.model.named_parameters()}
    double = dict(model.named_parameters())
    groups = [
        {**group, "params": [double[names[p]] for p in group["params"]]}
        for group in own.optimizer.param_groups
    ]
    optimizer = torch.optim.AdamW(groups)
    for step, batch in enumerate(batches, start=1):
        optimizer.zero_grad()
        base_loss(model, net if weighted else None, batch).backward()
        taken = []
        for group in optimizer.param_groups:
            for p in group["params"]:
                state = optimizer.state.get(p, {})
                m, v = (state.get(k, torch.zeros_like(p)) for k in ("exp_avg", "exp_avg_sq"))
                assert p.grad is not None
                taken.append((p, group, step, m.clone(), v.clone(), p.grad.clone()))
        optimizer.step()
    return (model, net), taken


def base_loss(model: Any, net: Any, batch: Batch) -> torch.Tensor:
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    losses = cross_entropy(model(**inputs).logits, batch["labels"], reduction="none")
    return losses.mean() if net is None else (net(losses.detach()[:, None]) * losses).mean()


def meta_gradient(
    found: Any, taken: list[Any], meta: Batch, base: Batch, *, adapted: bool
) -> torch.Tensor:
    """−mean_i ⟨∇ℓ_i, v⟩ ∂w_i/∂λ over `base`, example by example.

    v: ∇θ of the loss on `meta`; if `adapted` times ∂u/∂g of AdamW's update u(g), by autograd.
    """
    model, net = found
    params = [p for p, *_ in taken]
    v = torch.autograd.grad(base_loss(model, None, meta), params)
    if adapted:
        diagonals = []
        for _, group, step, m, s, g in taken:
            b1, b2 = group["betas"]
            g = g.requires_grad_()
            first = (b1 * m + (1 - b1) * g) / (1 - b1**step)
            second = (b2 * s + (1 - b2) * g**2) / (1 - b2**step)
            # 0 where no gradient has been, as of tokens not seen yet: autograd's root has no slope
            root = torch.where(second > 0, torch.where(second > 0, second, 1.0).sqrt(), 0.0)
            u = group["lr"] * first / (root + group["eps"])
            diagonals.append(torch.autograd.grad(u.sum(), g)[0])
        v = tuple(a * b for a, b in zip(v, diagonals, strict=True))
    losses, products = [], []
    for i in range(len(base["labels"])):
        loss = base_loss(model, None, {k: x[i : i + 1] for k, x in base.items()})
        own = torch.autograd.grad(loss, params)
        losses.append(loss.detach())
        products.append(sum((g * d).sum() for g, d in zip(own, v, strict=True)))
    weighted = (net(torch.stack(losses)[:, None]) * torch.tensor(products)).mean()
    gradients = torch.autograd.grad(weighted, net.parameters())
    return -torch.cat([g.reshape(-1) for g in gradients])


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b, dim=0))


@pytest.mark.parametrize(
    "name",
    ["sama", "sama-na", "sama:riding", "sama:sharing", "sama:apart", "sama-na:apart", "neumann",
     "cg", "unrolled"],
)  # fmt: skip
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_estimator_trains_both_levels(name: str, precision: str) -> None:
    own = work(UNROLL, precision)
    own.model.eval()  # no masks, which differ between precisions
    batches, meta_batch = [next(own.batches) for _ in range(8)], next(own.meta_batches)
    own.batches, own.meta_batches = iter(batches), iter([meta_batch])
    found, taken = base_steps(own, batches[:UNROLL], weighted=True)
    first, net = values(own.model), values(own.meta)
    gradients: list[torch.Tensor] = []
    update = own.meta_update

    def meta_update(of: list[torch.Tensor]) -> None:
        gradients.append(torch.cat([g.reshape(-1) for g in of]))
        update(of)

    own.meta_update = meta_update  # type: ignore[method-assign]
    contender = contenders([name], [1])[1]
    steps = steps_of(contender, own)
    steps.run(UNROLL)
    moved, expected = values(own.model) - first, values(found[0]) - first
    assert cosine(moved, expected) > (0.999 if precision == "fp32" else 0.95)
    assert float(moved.norm() / expected.norm()) == pytest.approx(1, rel=0.02)

    form = getattr(steps, "form", "apart")
    if form != "apart":  # the direction is taken, the next base step makes use of it
        assert not gradients
        steps.run(1)
    (gradient,) = gradients
    if contender.estimator in ("sama", "sama-na"):
        base = batches[UNROLL - 1] if form == "apart" else batches[UNROLL]
        adapted = contender.estimator == "sama"
        reference = meta_gradient(found, taken, meta_batch, base, adapted=adapted)
        assert cosine(gradient, reference) > (0.9999 if precision == "fp32" else 0.9)
    # AdamW's first step, of torch's own decay and eps
    expected = net * (1 - 1e-3 * 1e-2) - 1e-3 * gradient / (gradient.abs() + 1e-8)
    assert torch.allclose(values(own.meta), expected, atol=1e-6)


def test_plain_training_has_no_meta_level() -> None:
    own = work()
    own.model.eval()
    batches = [next(own.batches) for _ in range(3)]
    own.batches = iter(batches)
    (expected, _), _ = base_steps(own, batches, weighted=False)
    meta = values(own.meta)
    steps_of(Contender("plain"), own).run(3)
    assert torch.equal(values(own.meta), meta)
    assert torch.allclose(values(own.model).double(), values(expected), atol=1e-6)


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
    other = next(Work(load(), replace(HERE, rank=1)).batches)
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
    rows = {(row["form"], row["precision"]): row for row in derivatives(own)}
    assert set(rows) == {(form, precision) for form in DERIVATIVES for precision in PRECISIONS}
    for form in ("forward", "contraction"):
        error = rows[form, "fp32"]["error"]
        assert error is not None
        assert error < 1e-3
    assert all(row["relative_cost"] > 0 for row in rows.values())
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


def make_workloads(**changes: object) -> list[Workload]:
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
    return workloads(**arguments)  # type: ignore[arg-type]


def test_every_combination_is_a_workload() -> None:
    found = make_workloads(models=["bert-tiny", "minilm"], unrolls=[1, 4], world_sizes=[1, 2])
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
def test_impossible_workloads_are_refused(changes: dict[str, object], words: str) -> None:
    if "device" in changes and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(SamaError) as caught:
        make_workloads(**changes)
    assert words in str(caught.value)


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


def filled(load: Workload, name: str, parameters: int, throughput: float) -> Measurement:
    return replace(
        unmeasured(load, Contender(name), {"parameters": parameters, "threads": 1}),
        relative_throughput=throughput,
        relative_memory=1 / throughput,
    )


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of the figure that is written."""
    found: list[Any] = []
    write = Figure.savefig

    def savefig(figure: Figure, *arguments: Any, **options: Any) -> None:
        found.extend(figure.axes)
        write(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return found


def test_without_variation_the_plot_has_a_bar_for_each_that_ran(
    drawn: list[Any], tmp_path: Path
) -> None:
    where = replace(load(), model="bert-tiny")
    rows = [
        filled(where, "plain", 4_000_000, 1.0),
        replace(unmeasured(where, Contender("cg"), {}), error="out of memory"),
        filled(where, "sama", 4_000_000, 0.5),
    ]
    plot(rows, tmp_path / "plot.png")
    for axis, heights in zip(drawn, ([1.0, 0.5], [1.0, 2.0]), strict=True):
        assert [bar.get_height() for bar in axis.patches] == heights
        assert [tick.get_text() for tick in axis.get_xticklabels()] == ["plain", "sama"]
        assert [text.get_text() for text in axis.texts] == [f"{height:.2f}" for height in heights]
    assert image(tmp_path / "plot.png").std() > 0.01


def test_the_plot_has_a_column_for_whatever_was_varied(drawn: list[Any], tmp_path: Path) -> None:
    rows = []
    for model, parameters in (("bert-tiny", 4_000_000), ("minilm", 22_000_000)):
        for unroll in (1, 10):
            where = replace(load(unroll), model=model)
            ours = 0.5 + 0.04 * unroll + (0.01 if model == "minilm" else 0)
            rows += [
                filled(where, "plain", parameters, 1.0),
                filled(where, "sama", parameters, ours),
            ]
            failed = replace(unmeasured(where, Contender("cg"), {}), error="out of memory")
            rows.append(failed)
    plot(rows, tmp_path / "plot.png")
    over_model, over_unroll, memory, _ = drawn

    def points(axis: Any, name: str) -> list[tuple[float, float]]:
        (line,) = (line for line in axis.get_lines() if line.get_label() == name)
        return [(float(x), float(y)) for x, y in zip(*line.get_data(), strict=True)]

    # along one dimension the other stays at its first value
    assert points(over_model, "sama") == [(4e6, 0.54), (22e6, 0.55)]
    assert points(over_unroll, "sama") == [(1, 0.54), (10, pytest.approx(0.9))]
    assert points(memory, "sama") == [(4e6, 1 / 0.54), (22e6, 1 / 0.55)]
    assert points(over_model, "plain") == [(4e6, 1), (22e6, 1)]
    assert points(over_model, "cg") == []
    ticks = [tick.get_text() for tick in over_model.get_xticklabels()]
    assert ticks == ["bert-tiny\n4 M", "minilm\n22 M"]
    colours = {line.get_label(): line.get_color() for line in over_model.get_lines()}
    assert len(set(colours.values())) == 3
    assert image(tmp_path / "plot.png").std() > 0.01


def test_rows_are_json() -> None:
    text = json.dumps(filled(load(), "sama", 4, 0.5).as_dict(), allow_nan=False)
    assert Measurement(**json.loads(text)) == filled(load(), "sama", 4, 0.5)
