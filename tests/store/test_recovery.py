"""The training loop cut off and continued, out of memory, with losses that are not finite."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from samacli.bilevel.features import Facts, LossHistory
from samacli.bilevel.history import ExampleHistory
from samacli.bilevel.level import CleanRows, MetaLevel
from samacli.bilevel.reweighter import Reweighter
from samacli.data.batches import Beside
from samacli.errors import Interrupted, SamaError
from samacli.meta import LabelCorrector
from samacli.progress import Silent
from samacli.pruning.scores import AUM, DUAL, Entropy, Forgetting, GraNd
from samacli.recipe import Meta
from samacli.recipe.schema import Checkpoint
from samacli.store.checkpoints import Checkpoints
from samacli.training import loop
from samacli.training.loop import Fit, fit
from samacli.training.predict import predict
from samacli.training.robust import EarlyLearning
from samacli.training.runtime import make_accelerator
from tests.store.test_recovery_parts import stream
from tests.training.test_loop import problem, settings

STEPS = 12


class Cut(BaseException):
    """The process ends here."""


class Watched(Silent):
    """Calls `at` with the number of steps that are done; hears warnings."""

    def __init__(self, at: Callable[[int], None] = lambda done: None) -> None:
        self.at = at
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    @contextmanager
    def task(self, description: str, total: int) -> Iterator[Any]:
        done = 0

        def advance(steps: int = 1) -> None:
            nonlocal done
            done += steps
            if steps:
                self.at(done)

        yield SimpleNamespace(advance=advance)


class Net(nn.Module):
    """With dropout, batch norm and an unused tied weight; `hook` sees each batch of a pass."""

    def __init__(self, dropout: float = 0.2, hook: Callable[[Tensor], None] | None = None) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 3)
        self.norm = nn.BatchNorm1d(16) if dropout else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.hook = hook

    def forward(self, x: Tensor) -> Any:
        if self.hook is not None:
            self.hook(x)
        return SimpleNamespace(logits=self.last(self.dropout(self.norm(self.first(x)).relu())))


def level_of(kind: str) -> MetaLevel:
    clean_x, clean_y = problem(30, seed=2)
    settled: list[float] = []
    correction = kind == "correction"
    features: Any = ["loss", "label", "history"] if kind == "history" else ["loss", "label"]
    reweighter = Reweighter(
        features,
        3,
        hidden=8,
        corrector=LabelCorrector(3) if correction else None,
        amortised=kind == "slopes",
        shares=torch.tensor([0.2, 0.5, 0.3]),
    )

    if reweighter.slopes is not None:
        reweighter.slopes._next_fit = 3.0  # of the run's five meta steps

    class Settling:
        """Beliefs that settle on a number of the averaged model's."""

        of_train = None

        def settle(self, averaged: Any) -> None:
            settled.append(float(averaged.last.weight.detach().sum()))
            if reweighter.corrector is not None:
                reweighter.corrector.start_from(torch.eye(3) * settled[0], 0.4, 2.0)

        def state_dict(self) -> list[float]:
            return settled

        def load_state_dict(self, state: list[float]) -> None:
            settled.extend(state)

    return MetaLevel(
        Meta(learning_rate=0.02, warmup=0.2, unroll=2 if kind == "unroll" else 1, batch_size=10),
        reweighter,
        batches=stream(clean_x, clean_y, 10, seed=4),
        history=ExampleHistory(64, 3, targets=correction),
        facts=Facts(losses=LossHistory(64, torch.device("cpu")) if kind == "history" else None),
        clean=CleanRows(0.5, 0.6),
        beliefs=Settling(),
    )


def train(
    kind: str,
    folder: Path | None = None,
    progress: Watched | None = None,
    *,
    steps: int = STEPS,
    make: Callable[[], Net] | None = None,
    rows: tuple[Tensor, Tensor] | None = None,
    **config: Any,
) -> tuple[Fit, MetaLevel | None, Any]:
    """A run that is the same each time: alone, or saved in `folder` after every step."""
    torch.manual_seed(0)
    model = Net() if make is None else make()
    x, labels = rows or problem(64, seed=1)
    clean_x, clean_y = problem(30, seed=2)
    batches: Any = stream(x, labels, 16, seed=3)
    level, objective = None, {}
    observers: list[Any] = []
    if kind == "elr":
        objective = {"objective": EarlyLearning(64, 3)}
    elif kind == "scores":
        observers = [AUM(64), DUAL(64, visits=2), Forgetting(64), GraNd(64), Entropy(64)]
    elif kind != "plain":
        level = level_of(kind)
        first, then = (stream(clean_x, clean_y, 8, seed=s) for s in (5, 6))
        accumulation = config.get("accumulation", 1)
        batches = Beside(batches, "clean", level.clean.last_step(steps) * accumulation, first, then)  # type: ignore[union-attr]

    def validate(net: nn.Module) -> tuple[float, ...]:
        with torch.no_grad():
            losses = nn.functional.cross_entropy(net.eval()(clean_x).logits, clean_y)
        return (-float(losses),)

    accelerator = make_accelerator("cpu", "fp32")
    checkpoints = None
    if folder is not None:
        saving = Checkpoint(every_steps=1, every_seconds=None)
        checkpoints = Checkpoints(folder, saving, accelerator, advice=lambda: "go on")
    training = settings(
        optimizer={"name": config.pop("optimizer", "adamw"), "learning_rate": 0.02}, **config
    )
    run = fit(
        model, batches, steps, training, accelerator, meta_level=level, checkpoints=checkpoints,
        validate=validate if kind == "correction" else None, progress=progress,
        observers=observers, **objective,
    )  # fmt: skip
    return run, level, objective.get("objective", observers)


def everything(result: tuple[Fit, MetaLevel | None, Any]) -> list[Any]:
    """All that a run leaves, as lists that can be compared to the bit."""
    run, level, objective = result
    modules: list[nn.Module] = [run.model, *([] if run.averaged is None else [run.averaged])]
    if level is not None:
        modules.append(level.reweighter)
    found = [value.tolist() for module in modules for value in module.state_dict().values()]
    found += [[repr(row) for row in run.curve], run.best_step, float(torch.randn(()))]
    if level is not None:
        history = level.history
        found += [history.visits.tolist(), history.weights.tolist()]
        found.append(None if history.targets is None else history.targets.tolist())
    if isinstance(objective, EarlyLearning):
        return [*found, objective.targets.tolist()]
    return [*found, *(score.result().tolist() for score in objective)]


@pytest.mark.parametrize("cuts", [[1], [6, 7], [3, 11], [12]], ids=str)
@pytest.mark.parametrize(
    "kind", ["plain", "elr", "scores", "weights", "unroll", "history", "correction", "slopes"]
)
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    kind: str, cuts: list[int], tmp_path: Path
) -> None:
    whole = everything(train(kind))
    for cut in cuts:

        def end(done: int, cut: int = cut) -> None:
            if done == cut + 1:  # the step is done, but not saved
                raise Cut

        if cut < STEPS:
            with pytest.raises(Cut):
                train(kind, tmp_path, Watched(end))
            names = [path.name for path in sorted(tmp_path.iterdir())]
            assert names == [f"step-{n:08d}" for n in range(max(1, cut - 1), cut + 1)]
        else:
            train(kind, tmp_path)
    steps: list[int] = []
    again = train(kind, tmp_path, Watched(steps.append))
    assert everything(again) == whole
    assert steps[0] == cuts[-1]
    assert all(file.suffix in (".json", ".safetensors") for file in tmp_path.glob("*/*"))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_accumulation_and_either_optimizer(optimizer: str, tmp_path: Path) -> None:
    settings = {"optimizer": optimizer, "accumulation": 3}
    whole = everything(train("weights", **settings))

    def end(done: int) -> None:
        if done == 6:
            raise Cut

    with pytest.raises(Cut):
        train("weights", tmp_path, Watched(end), **settings)
    assert everything(train("weights", tmp_path, **settings)) == whole


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    def end(done: int) -> None:
        if done == 8:
            raise Cut

    with pytest.raises(Cut):
        train("weights", tmp_path, Watched(end))
    file = tmp_path / "step-00000007" / "shared.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert everything(train("weights", tmp_path)) == everything(train("weights"))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_signal_ends_the_run_after_the_step_and_saves_it(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    steps: list[int] = []

    def press(done: int) -> None:
        steps.append(done)
        if done == 4:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"after step 4 of 12; go on") as stopped:
        train("weights", tmp_path, Watched(press))
    assert stopped.value.code == code
    assert steps == [1, 2, 3, 4]
    assert signal.getsignal(number) == before
    assert max(tmp_path.iterdir()).name == "step-00000004"
    assert everything(train("weights", tmp_path)) == everything(train("weights"))


def test_ctrl_c_twice_stops_at_once(tmp_path: Path) -> None:
    passes: list[int] = []

    def press_in_the_step(x: Tensor) -> None:
        passes.append(1)
        if len(passes) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train("plain", tmp_path, make=lambda: Net(hook=press_in_the_step))
    assert len(passes) == 3
    assert max(tmp_path.iterdir()).name == "step-00000002"


class Small:
    """A device whose memory holds so many rows of a pass; `error` is what it says."""

    def __init__(self, rows: int, error: RuntimeError | None = None, from_pass: int = 0) -> None:
        self.rows, self.passes, self.from_pass = rows, 0, from_pass
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate …")

    def __call__(self, x: Tensor) -> None:
        self.passes += 1
        if self.passes > self.from_pass and torch.is_grad_enabled() and len(x) > self.rows:
            raise self.error


@pytest.mark.parametrize("fits", [8, 5])
@pytest.mark.parametrize("from_pass", [0, 5])
def test_out_of_memory_takes_batches_in_parts_of_the_same_gradient(
    fits: int, from_pass: int
) -> None:
    x, labels = problem(64, seed=1)
    labels[::7] = -1
    heard = Watched()
    words = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …")

    def small() -> Net:
        return Net(dropout=0.0, hook=Small(fits, words, from_pass))

    settings = {"rows": (x, labels), "optimizer": "sgd", "accumulation": 2}
    run, *_ = train("plain", progress=heard, make=small, **settings)
    whole, *_ = train("plain", make=lambda: Net(dropout=0.0), **settings)
    assert len(heard.warnings) == (1 if fits == 8 else 2)
    assert "batches of 16 are taken in 2 parts" in heard.warnings[0]
    for ours, theirs in zip(run.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert [loss for _, loss, _ in run.curve] == pytest.approx([loss for _, loss, _ in whole.curve])


def test_out_of_memory_in_the_backward_pass_leaves_no_half_gradients() -> None:
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
            if len(gradient) > 8:
                raise torch.OutOfMemoryError("out of memory")
            return gradient

    class Late(Net):
        def forward(self, x: Tensor) -> Any:
            return SimpleNamespace(logits=self.last(Fails.apply(self.first(x).relu())))

    run, *_ = train("plain", make=lambda: Late(dropout=0.0), optimizer="sgd")
    whole, *_ = train("plain", make=lambda: Net(dropout=0.0), optimizer="sgd")
    for ours, theirs in zip(run.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["weights", "history", "correction"])
def test_out_of_memory_with_a_meta_level_counts_every_example_once(
    kind: str, tmp_path: Path
) -> None:
    heard = Watched()
    run, level, _ = train(kind, progress=heard, make=lambda: Net(hook=Small(8, from_pass=11)))
    assert level is not None
    assert heard.warnings
    assert level.history.visits.sum() == STEPS / 2 * 16
    assert math.isfinite(sum(loss for _, loss, _ in run.curve))
    learnt = [meta for _, _, meta in run.curve if not math.isnan(meta)]
    assert len(learnt) >= 3

    def end(done: int) -> None:
        if done == 9:
            raise Cut

    with pytest.raises(Cut):
        train(kind, tmp_path, Watched(end), make=lambda: Net(hook=Small(8, from_pass=11)))
    assert everything(train(kind, tmp_path, make=lambda: Net(hook=Small(8)))) == everything(
        train(kind, make=lambda: Net(hook=Small(8, from_pass=11)))
    )


def test_what_does_not_fit_one_by_one_is_told() -> None:
    with pytest.raises(SamaError, match=r"step 1: out of memory with 1 example a pass; lower"):
        train("plain", progress=Watched(), make=lambda: Net(dropout=0.0, hook=Small(0)))


def test_a_step_whose_loss_is_not_finite_is_skipped_and_counted() -> None:
    """As if it had not been there, but for the schedule, which goes on."""
    x, labels = problem(64, seed=1)
    bad = next(stream(x, labels, 16, seed=3))["index"][0]
    x = x.clone()
    x[bad] = torch.inf
    run, *_ = train(
        "plain", make=lambda: Net(dropout=0.0), rows=(x, labels), optimizer="sgd", steps=4
    )
    assert run.skipped_steps == 1
    assert not math.isfinite(run.curve[0][1])

    torch.manual_seed(0)
    model = Net(dropout=0.0)
    optimizer = torch.optim.SGD(
        [{"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01},
         {"params": [p for p in model.parameters() if p.ndim == 1]}], lr=0.0, momentum=0.9,
    )  # fmt: skip
    batches = stream(x, labels, 16, seed=3)
    next(batches)
    for step in range(1, 4):
        batch = next(batches)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch["x"]).logits, batch["labels"]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:  # one step of warm-up, then down to 0 over three
            group["lr"] = 0.02 * (4 - step) / 3
        optimizer.step()
    for ours, theirs in zip(run.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["weights", "correction", "elr"])
def test_nothing_that_lasts_is_spoilt_by_a_bad_step(kind: str) -> None:
    x, labels = problem(64, seed=1)
    x = x.clone()
    x[5] = torch.nan
    run, level, objective = train(kind, rows=(x, labels))
    assert run.skipped_steps == 3  # an epoch is four steps
    modules = [run.model, *([] if level is None else [run.averaged, level.reweighter])]
    for module in modules:
        assert module is not None
        for value in module.state_dict().values():
            assert value.isfinite().all()
    if level is not None:
        assert level.history.weights.isfinite().all()
        assert level.history.visits[5] == 0
    else:
        assert objective.targets.isfinite().all()


def test_too_many_bad_steps_in_a_row_end_the_run_and_the_last_good_state_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SKIP_AT_MOST", 5)
    calls: list[int] = []

    def spoil(x: Tensor) -> None:
        calls.append(1)
        if len(calls) > 3:
            x.fill_(torch.nan)

    expected = (
        r"training: loss or gradient became nan at step 8 and 5 steps in a row were skipped; "
        r"lower training.optimizer.learning_rate, .*the last good checkpoint stands in"
    )
    with pytest.raises(SamaError, match=expected):
        train("plain", tmp_path, make=lambda: Net(hook=spoil))
    assert max(tmp_path.iterdir()).name == "step-00000003"
    assert everything(train("plain", tmp_path)) == everything(train("plain"))


def test_a_state_with_nan_in_it_is_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An infinite learning rate: the loss of the step is finite, what it leads to is not."""
    monkeypatch.setattr(loop, "SKIP_AT_MOST", 4)

    def ruin(done: int) -> None:
        if done == 3:
            with torch.no_grad():
                model.last.weight.fill_(torch.nan)

    model = Net()
    with pytest.raises(SamaError, match="skipped"):
        train("plain", tmp_path, Watched(ruin), make=lambda: model)
    assert max(tmp_path.iterdir()).name == "step-00000002"


def test_predictions_that_do_not_fit_are_made_in_parts() -> None:
    x, labels = problem(50, seed=1)
    seen: list[int] = []

    def hook(part: Tensor) -> None:
        seen.append(len(part))
        if len(part) > 6:
            raise torch.OutOfMemoryError("out of memory")

    net = Net()
    loader: Any = stream(x, labels, 20, seed=0).loader
    whole = predict(net, loader, 50, make_accelerator("cpu", "fp32"))
    net.hook = hook
    found = predict(net, loader, 50, make_accelerator("cpu", "fp32"))
    assert seen[:4] == [20, 10, 5, 5]
    assert max(seen[3:]) == 5
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(whole))
