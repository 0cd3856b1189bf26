"""Everything that people get wrong: one clear sentence, no traceback, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import sentences, write_csv

Run = Callable[..., tuple[int, str, str]]

QUICK = ["training.steps=2", "training.precision=fp32", "training.batch_size=16"]


@pytest.fixture
def reweight(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """`sama reweight` on good files, with some of them replaced; (exit code, stderr)."""

    def run(*extra: object, **files: object) -> tuple[int, str]:
        given = {
            "train": texts["noisy"],
            "meta": texts["clean"],
            "test": texts["test"],
            "model": tiny_bert,
            "output": tmp_path / "out",
            **files,
        }
        options = [part for name, value in given.items() for part in (f"--{name}", value)]
        code, _, err = run_sama("reweight", *options, *extra, *QUICK)
        return code, err

    return run


def refused(result: tuple[int, str], *said: str) -> None:
    code, err = result
    assert code == 2, err
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    for words in said:
        assert words in errors[0], errors[0]


def test_a_missing_file(reweight: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    refused(reweight(train=tmp_path / "nowhere.csv"), "nowhere.csv")
    assert not (tmp_path / "out").exists()


def test_a_missing_column(reweight: Callable[..., tuple[int, str]]) -> None:
    refused(reweight("--text-column", "txt"), "'txt'", "noisy.csv", "did you mean 'text'")
    refused(reweight("--label-column", "labels"), "'labels'", "did you mean 'label'")


def test_a_label_that_train_lacks(reweight: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    file = write_csv(tmp_path / "odd.csv", [*sentences(5, seed=3), ("a new day", "weather")])
    code, err = reweight(test=file)
    assert code == 0, err
    assert "warning: no row of the training split is given" in err
    assert "'weather'" in err
    assert "Casting" not in err, "no other library's bars"


def test_an_empty_split(reweight: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    refused(reweight(meta=write_csv(tmp_path / "none.csv", [])), "none.csv")


def test_one_class_only(reweight: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    one = [row for row in sentences(60, seed=3) if row[1] == "sport"]
    files = {n: write_csv(tmp_path / f"one-{n}.csv", one) for n in ("train", "meta", "test")}
    refused(reweight(**files), "only the class 'sport'")


def test_no_text(reweight: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    rows = [*sentences(20, seed=3), ("", "sport")]
    refused(reweight(train=write_csv(tmp_path / "gap.csv", rows)), "gap.csv", "row 20")


def test_no_clean_set(
    run_sama: Run, texts: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    code, _, err = run_sama(
        "reweight", "--train", texts["noisy"], "--model", tiny_bert, "-o", tmp_path / "out"
    )
    refused((code, err), "--meta")


def test_an_overlap_is_told_with_its_count(
    reweight: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    rows = sentences(400, seed=0)[:7] + sentences(20, seed=8)
    code, err = reweight(meta=write_csv(tmp_path / "both.csv", rows))
    assert code == 0
    assert "7 meta rows are training rows too" in " ".join(err.split())


def test_over_long_texts_are_cut_and_counted(
    reweight: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, err = reweight("data.max_length=6")
    assert code == 0
    assert "400 of 400 training texts are longer than 6 tokens (--max-length)" in err


def test_a_recipe_s_own_columns_and_splits_do_not_meet_a_file_of_ones_own(
    run_sama: Run, tmp_path: Path
) -> None:
    """Item 20: `sama reweight trec --train my.csv` failed on `true_label` after all was read."""
    train = write_csv(tmp_path / "my.csv", sentences(60, seed=3))
    clean = write_csv(tmp_path / "clean.csv", sentences(12, seed=4))
    topics = tmp_path / "topics.csv"
    topics.write_text(train.read_text().replace("text,label", "text,topic"))
    files = ("--meta", clean, "-o", tmp_path / "out", "--dry-run", *QUICK)

    refused(
        run_sama("reweight", "trec", "--train", train, *files)[::2],
        "has no column 'weak_label' (--label-column); its columns are: text, label",
    )
    refused(
        run_sama("reweight", "trec", "--train", train, "--label-column", "label")[::2],
        "none is given",  # not: data/trec is not there
        "--meta FILE",
    )
    clean.write_text(clean.read_text().replace("text,label", "text,topic"))
    code, out, err = run_sama(
        "reweight", "trec", "--train", topics, "--label-column", "topic", *files
    )
    assert code == 0, err
    assert "left aside: data.path, --test, data.columns.true_label" in err
    assert "nothing was trained" in out
    code, out, err = run_sama("reweight", "demo-text", "--train", train, "--meta", train, *files)
    assert "wrong" not in err, "no noise is injected into labels that are real"
    # Columns that the recipe keeps are looked for before rows are read.
    weak = tmp_path / "weak.csv"
    weak.write_text(train.read_text().replace("text,label", "text,weak_label"))
    clean.write_text(clean.read_text().replace("text,topic", "text,weak_label"))
    refused(
        run_sama("reweight", "trec", "--train", weak, *files)[::2],
        "has no column 'label' (data.columns.true_label); its columns are: text, weak_label",
    )


def test_a_corrupt_image(run_sama: Run, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        folder = tmp_path / "photos" / "train" / name
        folder.mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (40 * i, 10, 90)).save(folder / f"{i}.png")
    (tmp_path / "photos/train/dog/2.png").write_bytes(b"no image at all")
    code, _, err = run_sama(
        "prune", "task=image-classification", f"data.path={tmp_path / 'photos'}",
        "model.name=resnet8-small", "-o", tmp_path / "out", *QUICK,
    )  # fmt: skip
    refused((code, err), "2.png")


@pytest.mark.parametrize("keep", ["1.5", "0", "-1", "many", "0.7,2.5"])
def test_an_impossible_keep(run_sama: Run, tmp_path: Path, keep: str) -> None:
    code, _, err = run_sama("prune", f"--keep={keep}", "-o", tmp_path / "out")
    refused((code, err), "--keep")


def test_an_unknown_recipe_key_or_baseline(run_sama: Run, tmp_path: Path) -> None:
    refused(run_sama("reweight", "demo-txt")[::2], "demo-txt", "demo-text")
    refused(run_sama("reweight", "demo-text", "trainig.steps=2")[::2], "trainig", "training")
    refused(run_sama("reweight", "demo-text", "--baselines", "nosy")[::2], "baselines", "noisy")
    refused(run_sama("reweight", "demo-text", "trec")[::2], "one recipe at a time")


def test_a_finished_run_is_not_replaced_unasked(
    reweight: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    assert reweight("--baselines", "none")[0] == 0
    before = (tmp_path / "out" / "metrics.json").read_bytes()
    refused(reweight(), "already holds a finished run", "--overwrite")
    assert (tmp_path / "out" / "metrics.json").read_bytes() == before
    # A failing run with --overwrite leaves the earlier one as it was.
    refused(reweight("--overwrite", train=tmp_path / "nowhere.csv"), "nowhere.csv")
    assert (tmp_path / "out" / "metrics.json").read_bytes() == before
    assert reweight("--overwrite", "--baselines", "none")[0] == 0
    assert (tmp_path / "out" / "metrics.json").read_bytes() != before


def test_a_directory_with_something_else_in_it_is_never_replaced(
    reweight: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    refused(reweight("--overwrite", output=tmp_path / "mine"), "not empty")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_an_unreachable_hub(
    reweight: Callable[..., tuple[int, str]], run_sama: Run, tmp_path: Path
) -> None:
    refused(reweight(model="bert-base-uncased"), "bert-base-uncased", "hub")
    out = tmp_path / "out"
    code, _, err = run_sama("reweight", "agnews-hub-bert", "model.name=minilm", "-o", out)
    refused((code, err), "ag_news", "hub")


def test_a_device_that_is_not_there(reweight: Callable[..., tuple[int, str]]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    refused(reweight("--device", "cuda"), "--device cuda")


def test_debug_shows_the_traceback(run_sama: Run, tmp_path: Path) -> None:
    code, _, err = run_sama("--debug", "reweight", "demo-txt")
    assert code == 2
    assert "Traceback" in err
