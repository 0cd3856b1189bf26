"""`sama score`: one trained model's scores of every row, in shards that a kill cannot spoil."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from samacli.errors import SamaError
from samacli.models import load_model
from samacli.recipe import Model
from samacli.registry import scores_of
from samacli.runs.score import score
from tests.cli.test_bad_input import refused
from tests.conftest import WORDS, sentences, write_csv

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three named classes, with a tokenizer beside it."""
    folder = tmp_path_factory.mktemp("run") / "model"
    torch.manual_seed(0)
    network = load_model(Model(name=str(tiny_bert)), "text-classification", list(WORDS))
    with torch.no_grad():
        network.classifier.weight.mul_(40)  # opinions, where random weights have none
    network.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    return folder.parent


def make_data(folder: Path, rows: int = 43) -> Path:
    lines = sentences(rows, seed=4)
    lines[7] = (lines[7][0] + " stock" * 12, lines[7][1])  # a longer one
    return write_csv(folder / "data.csv", [*lines, ("the ball", "")])  # and one without a label


def read(out: Path) -> pa.Table:
    return pq.read_table(sorted(out.glob("scores-*.parquet")))


def shards(out: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(out).items() if name.endswith(".parquet")}


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the processes that these tests start: another number of threads adds in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_scores_are_those_of_plain_autograd(model: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path)
    result = score(
        model,
        str(data),
        tmp_path / "out",
        batch_size=8,
        rows_a_shard=10,
        device="cpu",
        precision="fp32",
    )
    assert (result.rows, result.resumed) == (44, 0)
    names = [path.name for path in sorted((tmp_path / "out").iterdir())]
    assert names == ["manifest.json", *(f"scores-{i:06d}.parquet" for i in range(5))]
    table = read(tmp_path / "out")
    assert table["index"].to_pylist() == list(range(44))
    assert table["given_label"].to_pylist()[-1] is None

    network = AutoModelForSequenceClassification.from_pretrained(model / "model").double().eval()
    tokenizer = AutoTokenizer.from_pretrained(model / "model")
    rows = list(datasets.load_dataset("csv", data_files=str(data), split="train"))
    for row, found in zip(rows, table.to_pylist(), strict=True):
        logits = network(**tokenizer(row["text"], return_tensors="pt")).logits[0]
        p = logits.softmax(-1)
        top = p.sort(descending=True).values
        expected = {
            "margin": (top[1] - top[0]).item(),
            "entropy": -(p * p.log()).sum().item(),
            "least_confidence": 1 - top[0].item(),
        }
        assert found["prediction"] == list(WORDS)[int(p.argmax())]
        if row["label"] is None:
            assert all(np.isnan(found[name]) for name in ("el2n", "grand", "loss"))
        else:
            label = list(WORDS).index(row["label"])
            assert found["given_label"] == row["label"]
            loss = -p[label].log()
            head = [network.classifier.weight, network.classifier.bias]
            gradients = torch.autograd.grad(loss, head)
            expected |= {
                "el2n": (p - torch.eye(3, dtype=torch.float64)[label]).norm().item(),
                "loss": loss.item(),
                "grand": torch.cat([g.flatten() for g in gradients]).norm().item(),
            }
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    columns = {"index", "given_label", "prediction", *scores_of("score")}
    assert columns == set(table.column_names)


KILLED = """
import os, signal, sys
from pathlib import Path
from samacli.export.score_shards import ScoreShards
from samacli.runs.score import score

write, done = ScoreShards.write, []
def dying(self, shard, columns):
    write(self, shard, columns)
    done.append(shard)
    if len(done) == 3:
        # as a kill in the middle of the next shard leaves it
        (self.folder / ".scores-000003.parquet.x.parquet").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
ScoreShards.write = dying
settings = {"batch_size": 8, "rows_a_shard": 5, "device": "cpu", "precision": "fp32"}
score(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), **settings)
"""


def test_killed_half_way_and_resumed_gives_the_same_files(model: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path)
    settings = {"batch_size": 8, "rows_a_shard": 5, "device": "cpu", "precision": "fp32"}
    score(model, str(data), tmp_path / "whole", **settings)  # type: ignore[arg-type]
    command = [sys.executable, "-c", KILLED, str(model), str(data), str(tmp_path / "out")]
    killed = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "out").glob("scores-*.parquet"))) == 3
    assert not json.loads((tmp_path / "out" / "manifest.json").read_text())["finished"]

    torn = tmp_path / "out" / "scores-000001.parquet"
    torn.write_bytes(torn.read_bytes()[:100])  # as a crash of the machine may leave it
    result = score(model, str(data), tmp_path / "out", **settings)  # type: ignore[arg-type]
    assert (result.rows, result.resumed) == (44, 10)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")

    # Once more: nothing is left to do, and nothing is touched.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert score(model, str(data), tmp_path / "out", **settings).resumed == 44  # type: ignore[arg-type]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


def test_streams_give_what_files_give(model: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path)
    rows = datasets.load_dataset("csv", data_files=str(data), split="train")
    (tmp_path / "many").mkdir()
    for number in range(3):
        rows.shard(3, number, contiguous=True).to_parquet(
            tmp_path / "many" / f"train-{number}.parquet"
        )
    rows.to_json(tmp_path / "data.jsonl")
    score(model, str(data), tmp_path / "csv", rows_a_shard=10, device="cpu", precision="fp32")
    expected = shards(tmp_path / "csv")
    for name, source in (("a", tmp_path / "many"), ("b", tmp_path / "data.jsonl")):
        result = score(
            model,
            str(source),
            tmp_path / name,
            rows_a_shard=10,
            stream=True,
            device="cpu",
            precision="fp32",
        )
        assert result.rows == 44
        assert shards(tmp_path / name) == expected
        # Resumed from the middle of the stream.
        before = contents(tmp_path / name)
        for shard in (1, 3, 4):
            (tmp_path / name / f"scores-{shard:06d}.parquet").unlink()
        again = score(
            model,
            str(source),
            tmp_path / name,
            rows_a_shard=10,
            stream=True,
            device="cpu",
            precision="fp32",
        )
        assert again.resumed == 20
        assert contents(tmp_path / name) == before
    with pytest.raises(SamaError, match="cannot be read as a stream"):
        score(model, str(data), tmp_path / "c", stream=True, device="cpu", precision="fp32")


def test_another_scoring_is_never_mixed_in(
    run_sama: Run, model: Path, tmp_path: Path, tiny_bert: Path
) -> None:
    data, out = make_data(tmp_path), tmp_path / "out"

    def again(*more: object, run: Path = model, rows: Path = data) -> tuple[int, str]:
        code, _, err = run_sama(
            "score",
            run,
            "--data",
            rows,
            "-o",
            out,
            "--device",
            "cpu",
            "--precision",
            "fp32",
            "--shard-rows",
            20,
            *more,
        )
        return code, err

    assert again()[0] == 0
    before = contents(out)
    refused(again("--batch-size", 8), "another settings: batch_size was 64 and is 8", "--overwrite")
    refused(again("--scores", "el2n"), "another settings: scores was")
    other_rows = write_csv(tmp_path / "other.csv", sentences(44, 9))
    refused(again(rows=other_rows), "another data: content of 64 rows was")
    network = AutoModelForSequenceClassification.from_pretrained(model / "model")
    other = tmp_path / "other"
    with torch.no_grad():
        network.classifier.bias.add_(1)
    network.save_pretrained(other)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(other)
    refused(again(run=other), "another model: model.safetensors was")
    assert contents(out) == before
    assert again("--overwrite", "--scores", "entropy", "--shard-rows", 30)[0] == 0
    assert read(out).column_names == ["index", "given_label", "prediction", "entropy"]
    assert len(list(out.glob("scores-*"))) == 2


def test_unfinished_scores_are_not_selected_from(
    run_sama: Run, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("duckdb")
    out = tmp_path / "out"
    score(model, str(make_data(tmp_path)), out, rows_a_shard=10, device="cpu", precision="fp32")
    select = ["select", out, "--score", "el2n", "--keep", 12, "-o", tmp_path / "kept"]
    assert run_sama(*select, "--by-class", "given_label", "--rows")[0] == 0
    listed = [int(row) for row in (tmp_path / "kept" / "keep.txt").read_text().split()]
    assert len(listed) == 12
    rows = pq.read_table(tmp_path / "kept" / "kept").to_pylist()
    assert repr(rows) == repr(read(out).take(listed).to_pylist())  # NaN differs from itself
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "scores-000002.parquet").unlink()
    refused(run_sama(*select, "--overwrite")[::2], "scores-000002.parquet is missing from")
    (out / "manifest.json").write_text(json.dumps({**manifest, "finished": False}))
    refused(run_sama(*select, "--overwrite")[::2], "not finished", "sama score")


def test_images_of_a_folder(tmp_path: Path) -> None:
    from samacli.data import ImageStatistics
    from samacli.models import image_processor, save_model

    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / "train" / name).mkdir(parents=True)
        for i in range(4):
            pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / "train" / name / f"{i}.png")
    torch.manual_seed(0)
    network = load_model(Model(name="resnet8-small"), "image-classification", ["cat", "dog"])
    statistics = ImageStatistics((0.5,) * 3, (0.25,) * 3, (8, 8))
    save_model(network, image_processor(statistics), tmp_path / "model")
    score(
        tmp_path / "model",
        str(tmp_path / "photos"),
        tmp_path / "out",
        rows_a_shard=3,
        device="cpu",
        precision="fp32",
    )
    table = read(tmp_path / "out")
    assert table["given_label"].to_pylist() == ["cat"] * 4 + ["dog"] * 4
    network = network.double().eval()
    for row, found in enumerate(table.to_pylist()):
        name = "cat" if row < 4 else "dog"
        image = Image.open(tmp_path / "photos" / "train" / name / f"{row % 4}.png")
        pixels = torch.from_numpy(np.asarray(image).transpose(2, 0, 1) / 255.0)
        logits = network(pixel_values=((pixels - 0.5) / 0.25)[None]).logits
        wanted = torch.nn.functional.cross_entropy(logits, torch.tensor([row // 4])).item()
        assert found["loss"] == pytest.approx(wanted, rel=1e-4)


def test_mistakes_are_told_in_a_sentence(run_sama: Run, model: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path)

    def wrong(*options: object, rows: object = data, run: object = model) -> tuple[int, str]:
        code, _, err = run_sama(
            "score",
            run,
            "--data",
            rows,
            "-o",
            tmp_path / "out",
            "--device",
            "cpu",
            "--precision",
            "fp32",
            *options,
        )
        return code, err

    refused(wrong("--scores", "el3n"), "no score 'el3n'", "did you mean 'el2n'")
    refused(wrong(rows=tmp_path / "none.csv"), "none.csv")
    refused(wrong(run=tmp_path), "no saved model")
    refused(wrong("--label-column", "labels"), "'labels'", "did you mean 'label'")
    (tmp_path / "out" / "manifest.json").unlink()
    (tmp_path / "out" / "mine.txt").write_text("years of work")
    refused(wrong(), "not empty", "manifest.json")
    (tmp_path / "out" / "mine.txt").unlink()
    odd = write_csv(tmp_path / "odd.csv", [*sentences(25, seed=3), ("a new day", "weather")])
    refused(wrong("--shard-rows", 10, rows=odd), "'weather'", "row 25", "the model lacks")
    gap = write_csv(tmp_path / "gap.csv", [*sentences(12, seed=3), ("", "sport")])
    refused(wrong("--overwrite", "--shard-rows", 10, rows=gap), "row 12", "no text")


def test_two_processes_share_the_shards(model: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path)
    score(model, str(data), tmp_path / "one", rows_a_shard=5, device="cpu", precision="fp32")
    done = subprocess.run(
        [
            sys.executable, "-m", "samacli", "score", str(model), "--data", str(data),
            "-o", str(tmp_path / "two"), "--shard-rows", "5", "--device", "cpu",
            "--precision", "fp32", "--nproc", "2",
        ],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("44 rows scored") == 1
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


def test_an_interruption_says_that_the_shards_stay(
    run_sama: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samacli.export.score_shards import ScoreShards

    write = ScoreShards.write

    def interrupted(self: ScoreShards, shard: int, columns: dict[str, object]) -> None:
        if shard == 2:
            raise KeyboardInterrupt
        write(self, shard, columns)

    monkeypatch.setattr(ScoreShards, "write", interrupted)
    code, _, err = run_sama(
        "score", model, "--data", make_data(tmp_path), "-o", tmp_path / "out",
        "--shard-rows", 10, "--device", "cpu",
    )  # fmt: skip
    assert code == 130
    assert "the finished shards stay" in err
    assert len(list((tmp_path / "out").glob("scores-*.parquet"))) == 2
