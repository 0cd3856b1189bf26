"""Runs that are killed, find the disk full, or are asked to stop, and go on to the same end."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samacli.errors import SamaError
from samacli.recipe import load_recipe
from samacli.runs.prune import prune
from samacli.store.lock import Lock
from tests.conftest import make_texts
from tests.runs.cutting import in_a_process

MEASURED = {"seconds", "samples_per_second", "peak_memory_bytes"}


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in MEASURED}
    return value


def contents(output: Path) -> dict[str, Any]:
    """Every file of a run: its bytes, but of metrics.json what isn't a time or memory.

    The report tells those too, and else nothing that the other files don't.
    """
    files = sorted(path for path in output.rglob("*") if path.is_file())
    found: dict[str, Any] = {str(file.relative_to(output)): file.read_bytes() for file in files}
    del found["report.html"]
    found["metrics.json"] = without_times(json.loads(found["metrics.json"]))
    return found


def texts_arguments(folder: Path, model: Path, *overrides: str) -> dict[str, Any]:
    texts = make_texts(folder)
    return {
        "recipe": None,
        "overrides": [
            "training.steps=12",
            "training.batch_size=16",
            "training.precision=fp32",
            "training.optimizer.learning_rate=3e-3",
            "data.columns.true_label=truth",
            "reweight.correction=true",
            "reweight.features=[loss, label, history, prior]",
            "reweight.baselines=[noisy]",
            "repeats=2",
            "checkpoint.every_steps=4",
            *overrides,
        ],
        "values": {
            "data.train": str(texts["noisy"]),
            "data.meta": str(texts["clean"]),
            "data.test": str(texts["test"]),
            "model.name": str(model),
        },
    }


def digits_arguments(*overrides: str) -> dict[str, Any]:
    return {
        "recipe": "demo-vision",
        "overrides": [
            "training.steps=12",
            "repeats=1",
            "model.config={hidden_sizes: [16, 32], depths: [1, 1], embedding_size: 16}",
            "data.max_train_rows=300",
            "checkpoint.every_steps=4",
            *overrides,
        ],
        "values": {},
    }


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("texts")
    return {
        "reweight": texts_arguments(folder, tiny_bert),
        "prune": digits_arguments(),
    }


@pytest.fixture(scope="module")
def whole(
    arguments: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[str, Any], int]]:
    """Of either command what an uninterrupted run leaves, and how many events it has."""
    folder = tmp_path_factory.mktemp("whole")
    found = {}
    for command in ("reweight", "prune"):
        report = in_a_process(command, arguments[command], folder / command)
        assert report is not None
        assert not report["error"]
        assert [path.name for path in folder.glob(f"{command}*")] != []
        assert not (folder / f"{command}.partial").exists()
        found[command] = (contents(folder / command), report["events"])
    return found


@pytest.mark.parametrize("command", ["reweight", "prune"])
def test_killed_at_three_random_points_it_ends_as_if_it_had_not_been(
    command: str, arguments: dict[str, Any], whole: dict[str, Any], tmp_path: Path
) -> None:
    expected, events = whole[command]
    seed = int(os.environ.get("SAMA_TEST_SEED", random.SystemRandom().randrange(10**6)))
    print(f"SAMA_TEST_SEED={seed} draws the same points again")
    draw = random.Random(seed)
    output = tmp_path / "out"
    ask = {**arguments[command], "resume": True}
    # What lies after a point of an uninterrupted run is still to come after a death there, so each
    # of these is reached: counted from the one before, for a run counts its own events.
    points = sorted(draw.sample(range(1, events), 3))
    for before, point in zip([0, *points], points, strict=False):
        print(f"killed at event {point - before}, {point} of {events} in all")
        assert in_a_process(command, ask, output, point - before) is None
        assert not output.exists()
    report = in_a_process(command, ask, output)
    assert report is not None
    assert not report["error"]
    assert contents(output) == expected
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.told"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB: a little more than two checkpoints of the tiny model."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_it_goes_on_when_there_is_space(
    arguments: dict[str, Any], whole: dict[str, Any], small_disk: Path, tmp_path: Path
) -> None:
    ask = arguments["reweight"]
    no_check = {**ask, "roomy": True}  # the disk fills while the run is under way
    earlier = small_disk / "earlier"
    earlier.mkdir()
    (earlier / "metrics.json").write_text("kept")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2_300_000))
    report = in_a_process("reweight", no_check, small_disk / "out")
    assert report is not None
    assert "no space is left in" in report["error"]
    assert "--resume goes on from there" in report["error"]
    assert not (small_disk / "out").exists()
    assert (earlier / "metrics.json").read_text() == "kept"
    partial = small_disk / "out.partial"
    assert [path for path in partial.rglob("*") if path.name.endswith(".writing")] == []
    refused = in_a_process("reweight", {**ask, "resume": True}, small_disk / "out")
    assert refused is not None
    assert "left, and the run may take" in refused["error"]

    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    report = in_a_process("reweight", {**ask, "resume": True}, small_disk / "out")
    assert report is not None
    assert not report["error"]
    assert contents(small_disk / "out") == whole["reweight"][0]


def test_another_request_is_not_gone_on_with(
    arguments: dict[str, Any], tmp_path: Path, tiny_bert: Path
) -> None:
    from samacli.runs.reweight import reweight

    output = tmp_path / "out"
    ask = arguments["reweight"]

    def recipe(*overrides: str, **values: str) -> Any:
        return load_recipe(None, [*ask["overrides"], *overrides], {**ask["values"], **values})

    def refused(chosen: Any, *, resume: bool = True) -> str:
        with pytest.raises(SamaError) as error:
            reweight(chosen, output, resume=resume, device="cpu")
        return str(error.value)

    assert in_a_process("reweight", ask, output, 30) is None
    partial = f"'{output}.partial'"
    assert refused(recipe(), resume=False) == (
        f"{partial} holds an unfinished run of this output; add --resume to go on with it, or "
        "--overwrite to start anew without it"
    )
    assert refused(recipe("training.batch_size=8", "seed=1")) == (
        f"--resume: seed is 1 here and 0 in the unfinished run {partial} (1 more value differs); "
        "give the same recipe, or start anew with --overwrite"
    )
    clean = tmp_path / "clean.csv"
    rows = Path(ask["values"]["data.meta"]).read_text()
    Path(ask["values"]["data.meta"]).rename(clean)
    Path(ask["values"]["data.meta"]).write_text(rows.replace("ball", "bank", 1))
    try:
        assert refused(recipe()) == (
            f"--resume: the data have changed since the unfinished run {partial} was begun: meta; "
            "bring them back, or start anew with --overwrite"
        )
    finally:
        clean.rename(ask["values"]["data.meta"])
    with pytest.raises(SamaError, match="is an unfinished run of sama reweight; go on with that"):
        prune(recipe(), output, resume=True, device="cpu")
    holder = Lock()
    assert holder.take(output.with_name(".out.lock"))
    at_work = f"another command is at work on {partial}; wait for it, stop it, or name another"
    assert at_work in refused(recipe())
    with pytest.raises(SamaError, match="another command is at work on"):
        reweight(recipe(), output, overwrite=True, device="cpu")
    fresh = output.with_name("fresh")
    other = Lock()
    assert other.take(output.with_name(".fresh.lock"))
    missing = recipe(**{"data.train": str(output.with_name("none.csv"))})
    with pytest.raises(SamaError, match="another command is at work on"):
        reweight(missing, fresh, device="cpu")  # before it is seen that the data are not there
    holder.release()
    other.release()
    assert not [*tmp_path.glob(".*.lock")], "and none of theirs is left"
    assert (output.with_name("out.partial") / "run.json").is_file(), "nothing of it was removed"
