"""The one display of a run: how far it is, and how long all of its trainings will take."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from samacli.cli import console
from samacli.cli.console import ConsoleProgress, QuietProgress
from samacli.progress import Planned, Timetable

PLAIN = ((1.0, 10.0),)
# Cheap at first, then a third dearer, then cheap again.
META = ((0.2, 30.0), (0.5, 40.0), (1.0, 30.0))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_work_of_steps_that_differ() -> None:
    one = Planned("a", "a", 100, META)
    assert one.work(10) == 300
    assert one.work(30) == 20 * 30 + 10 * 40
    assert one.work(100) == one.all_work == 20 * 30 + 30 * 40 + 50 * 30
    assert [one.kind, Planned("b", "b", 100, PLAIN).kind] == ["meta", "plain"]


def test_time_left_goes_by_the_paces_that_were_measured() -> None:
    clock = Clock()
    trainings = [
        Planned("noisy", "noisy", 100, PLAIN, after=100),
        Planned("clean", "clean", 100, PLAIN, after=100),
        Planned("sama", "sama", 100, META, after=100),
    ]
    table = Timetable(trainings, clock=clock)
    assert table.seconds_left is None, "nothing is known of the pace"
    assert Timetable(trainings, 0.5).seconds_left == 0.5 * (1100 + 1100 + 3400)
    assert not table.begin("encoding"), "no training"
    assert table.begin("noisy")
    table.reached(0)
    clock.now += 10
    table.reached(20)  # 200 of 1,000 rows in 10 s
    assert table.seconds_left == pytest.approx(0.05 * (900 + 1100 + 3400))
    clock.now += 40
    table.reached(100)
    table.end()
    assert table.begin("clean")
    table.reached(0)
    assert table.seconds_left == pytest.approx(0.05 * (1100 + 3400))
    # One that was begun in an earlier process: its first 50 steps took no time here.
    table.begin("sama")
    table.reached(50)
    assert table.seconds_left == pytest.approx(0.05 * (50 * 30 + 100))
    clock.now += 30
    table.reached(60)  # 300 rows in 30 s
    assert table.seconds_left == pytest.approx(0.1 * (40 * 30 + 100))
    table.end()
    assert table.seconds_left == 0


def test_a_meta_level_has_a_pace_of_its_own() -> None:
    clock = Clock()
    names = ["a", "sama a", "b", "sama b"]
    trainings = [Planned(n, n, 10, META if "sama" in n else PLAIN) for n in names]
    table = Timetable(trainings, clock=clock)
    for name, seconds in (("a", 10.0), ("sama a", 66.0)):
        table.begin(name)
        table.reached(0)
        clock.now += seconds
        table.reached(10)
        table.end()
    assert table.seconds_left == pytest.approx(10 + 66)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., io.StringIO]:
    """stderr as a terminal, or as a log."""

    def make(*, is_terminal: bool, width: int = 80) -> io.StringIO:
        file = io.StringIO()
        shown = Console(file=file, force_terminal=is_terminal, width=width, color_system=None)
        monkeypatch.setattr(console, "stderr", shown)
        return file

    return make


TWO = [Planned("noisy, seed 0", "noisy", 200, PLAIN), Planned("clean, seed 0", "clean", 200, PLAIN)]


def test_a_terminal_has_one_line_for_the_whole_run(terminal: Any) -> None:
    file = terminal(is_terminal=True)
    progress = ConsoleProgress()
    progress.expect(TWO, seconds_a_row=0.1)
    with progress.task("encoding the training split", 400) as task:
        task.advance(100)
        assert "encoding the training split, 100/400" in shown(progress)
        assert "6.7 min left in all" in shown(progress)
    with progress.task("clean, seed 0", 200) as task:
        task.advance(0)
        task.advance(31)
        line = shown(progress)
        assert "training 2 of 2 (clean), 31/200 steps, 2.8 min left in all" in line
        with progress.task("judging by clean rows", 10):
            assert "judging by clean rows, 0/10" in shown(progress)
        assert "training 2 of 2" in shown(progress)
        assert len(line.rstrip("\n")) <= 80
    assert "\n\n" not in file.getvalue()


def shown(progress: ConsoleProgress) -> str:
    file = io.StringIO()
    Console(file=file, width=80).print(progress._line())
    return file.getvalue()


def test_a_long_name_is_cut_and_never_wraps(terminal: Any) -> None:
    terminal(is_terminal=True)
    name = "how many labels are wrong, " * 5
    progress = ConsoleProgress()
    with progress.task(name, 10):
        assert len(shown(progress).splitlines()) == 1


def test_a_log_has_a_line_now_and_then(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    file = terminal(is_terminal=False)
    clock = Clock()
    monkeypatch.setattr(console.time, "monotonic", clock)
    progress = ConsoleProgress()
    progress.expect([*TWO, Planned("clean, seed 1", "clean", 200, PLAIN)])
    for description in ("noisy, seed 0", "clean, seed 0"):
        with progress.task(description, 200) as task:
            task.advance(0)
            for _ in range(200):
                clock.now += 0.375
                task.advance()
    with progress.task("scoring the training set", 10) as task:
        task.advance(10)
    assert file.getvalue().splitlines() == [
        "training 1 of 3 (noisy), 80/200 steps, 3.2 min left in all",
        "training 1 of 3 (noisy), 160/200 steps, 2.8 min left in all",
        "training 1 of 3 (noisy): 75 s, 2.5 min left in all",
        "training 2 of 3 (clean, seed 0), 80/200 steps, 2.0 min left in all",
        "training 2 of 3 (clean, seed 0), 160/200 steps, 90 s left in all",
        "training 2 of 3 (clean, seed 0): 75 s, 75 s left in all",
    ]
    assert "\r" not in file.getvalue()


def test_quiet_says_nothing(terminal: Any) -> None:
    for is_terminal in (True, False):
        file = terminal(is_terminal=is_terminal)
        progress = QuietProgress()
        progress.expect(TWO)
        with progress.task("noisy, seed 0", 200) as task:
            task.advance(200)
        progress.note("a fact")
        assert file.getvalue() == ""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Descriptions of the trainings that were announced, and of those that came."""
    from samacli.training import experiment

    found: dict[str, list[str]] = {"expected": [], "came": []}
    fit, expect = experiment.fit, ConsoleProgress.expect

    def counted(*arguments: Any, **named: Any) -> Any:
        found["came"].append(named["description"])
        return fit(*arguments, **named)

    def heard(self: ConsoleProgress, trainings: list[Planned], *more: Any) -> None:
        found["expected"] += [one.description for one in trainings]
        expect(self, trainings, *more)

    monkeypatch.setattr(experiment, "fit", counted)
    monkeypatch.setattr(ConsoleProgress, "expect", heard)
    return found


@pytest.mark.parametrize(
    "more",
    [
        ["reweight", "--baselines", "all", "repeats=2"],
        ["reweight", "--correct", "--baselines", "none", "data.max_train_rows=300"],
        ["prune", "--keep", "0.5,100", "repeats=2"],
        ["prune", "--keep", "0.5", "--verify", "--scores", "el2n", "prune.order=trial"],
    ],
    ids=["all baselines", "none", "prune", "verify"],
)
def test_every_training_is_announced_in_order(
    run_sama: Any, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path, told: Any,
    more: list[str],
) -> None:  # fmt: skip
    code, _, err = run_sama(
        more[0], "--train", texts["noisy"], "--meta", texts["clean"], "--test", texts["test"],
        "--model", tiny_bert, "training.steps=2", "training.precision=fp32",
        "training.batch_size=8", *more[1:], "-o", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    assert told["expected"] == told["came"]
    assert not {"\r", "it/s", "examples/s"} & {*err, *err.replace("]", " ").split()}, "others' bars"
    last = len(told["came"])
    assert f"training {last} of {last} (" in err or last == 1


def test_train_tells_of_its_training(
    run_sama: Any, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path, told: Any
) -> None:
    given = ["--model", tiny_bert, "training.steps=2", "training.precision=fp32"]
    data = ["--train", texts["noisy"], "--meta", texts["clean"]]
    assert run_sama("reweight", *data, *given, "-o", tmp_path / "out")[0] == 0
    told["expected"].clear()
    told["came"].clear()
    code, _, err = run_sama("train", tmp_path / "out", *given, "-o", tmp_path / "final")
    assert code == 0, err
    assert told == {"expected": ["training"], "came": ["training"]}
