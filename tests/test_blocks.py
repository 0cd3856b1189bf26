"""Every code block of the README and of docs/ is run, page by page, in the order of the page.

A page has a folder of its own. What its blocks name and no block made (noisy.csv, photos/,
mine.yaml, runs/mine …) is put there beforehand, small, by STAND_INS. So that a page takes seconds,
commands of `sama` get the settings of QUICK at their end, and models by name become a tiny one.
What can't be run here says so in the page, in a comment before the block:
`<!-- not run: REASON -->`.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import tomllib
import yaml
from PIL import Image

import samacli
from samacli.recipe import Recipe, built_in_recipes
from tests.conftest import WORDS, sentences, write_csv

ROOT = Path(__file__).resolve().parents[1]
# Run by other tests, or made from the code; a generated page is held to its generator.
ELSEWHERE = {
    "docs/contributing.md": "tests/test_contributing.py",
    "docs/reference/python.md": "signatures, made by docs/make_reference.py",
    "docs/tour.md": "a transcript",
}
# All that is not run, and why. A new one is to be thought about, so it is said here too.
UNRUN = {
    "README.md": ["needs several machines"],
    "docs/benchmarks/gpu/README.md": ["needs a GPU"] * 4,
    "docs/follow-and-share.md": ["starts a server", "needs the hub", "needs the hub"],
    "docs/label.md": ["a person fills the file in first", "needs Argilla"],
    "docs/review.md": ["starts a server"],
    "docs/tutorials/many-gpus.md": ["needs several machines"],
}
TRAINING = ["training.steps=2", "training.precision=fp32", "training.batch_size=8"]
META = ["meta.batch_size=8", "repeats=1", "data.max_train_rows=40", "data.max_test_rows=40"]
QUICK: dict[str, list[str]] = {
    "reweight": [*TRAINING, *META],
    "prune": [*TRAINING, *META, "prune.score_runs=1", "prune.folds=2"],
    "train": TRAINING,
    "label": ["--budget", "5"],
    "table": ["--dry-run"],
    "bench": shlex.split(
        "--batch-size 2 --sequence-length 8 --rounds 1 --steps 2 --precision fp32 --device cpu "
        "--estimators sama --in-process"
    ),
}
MODELS = {"minilm", "bert-base", "bert-base-uncased", "bert-tiny,minilm,bert-base"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, first line, language, code, and why it is not run (None: it is)."""

    page: str
    line: int
    language: str
    code: str
    unrun: str | None


def blocks() -> dict[str, list[Block]]:
    """By page, in the order of the page: of all but ELSEWHERE's."""
    found: dict[str, list[Block]] = {}
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        page = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        fences = r"(?ms)^([ ]*)```([\w-]*)\n(.*?)^[ ]*```$"
        for match in re.finditer(fences, text):
            before = text[: match.start()]
            reason = re.search(r"<!-- not run: ([^\n]*?) -->\s*\Z", before)
            if page not in ELSEWHERE:
                found.setdefault(page, []).append(
                    Block(
                        page, before.count("\n") + 2, match[2],
                        re.sub(rf"(?m)^{match[1]}", "", match[3]), reason and reason[1],
                    )
                )  # fmt: skip
    return found


BLOCKS = blocks()


def commands(block: Block) -> list[list[str]]:
    """The commands of a block as words; of a console's, what follows a prompt."""
    code = block.code.replace("\\\n", " ")
    lines = code.splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def test_what_is_not_run_says_why() -> None:
    marked = {
        page: [block.unrun for block in of_page if block.unrun] for page, of_page in BLOCKS.items()
    }
    assert {page: reasons for page, reasons in marked.items() if reasons} == UNRUN
    for page in ELSEWHERE:
        assert page == "docs/tour.md" or (ROOT / page).exists()


def test_every_block_says_what_language_it_is() -> None:
    known = {"sh", "bash", "console", "python", "yaml", "json", "text"}
    for of_page in BLOCKS.values():
        for block in of_page:
            # What a drawing of folders is shown as has none; nothing in it looks like a command.
            assert block.language in known or (
                not block.language and not re.search(r"(?m)^(\$ )?(sama|make|pip) ", block.code)
            ), f"{block.page}:{block.line}"


NOTEBOOKS = sorted((ROOT / "docs" / "tutorials" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_its_cells_gave(path: Path) -> None:
    """Executed from the first cell to the last by `make notebooks`, pictures and all."""
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "as it is made"
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
    assert path.stat().st_size < 400_000
    for cell in code:
        for name in re.findall(r"samacli\.(\w+)\(", "".join(cell["source"])):
            assert hasattr(samacli, name), name


# Stand-ins, by the names that the pages use


def texts(path: Path) -> None:
    write_csv(path, sentences(24 if path.stem != "noisy" else 48, seed=len(path.stem)))


def images(path: Path) -> None:
    generator = np.random.default_rng(len(path.name))
    for label in ("cat", "dog"):
        (path / label).mkdir(parents=True)
        for i in range(8):
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / label / f"{i}.png")


def image_table(path: Path) -> None:
    folder = path.with_suffix(".images")
    images(folder)
    files = sorted(folder.rglob("*.png"))
    pandas.DataFrame(
        {"img": [file.read_bytes() for file in files], "label": [f.parent.name for f in files]}
    ).to_parquet(path)


def wrench(path: Path) -> None:
    path.mkdir()
    for name, seed in (("train", 0), ("valid", 1), ("test", 2)):
        entries = {}
        for i, (text, label) in enumerate(sentences(36, seed)):
            truth = list(WORDS).index(label)
            votes = [truth, (truth + 1) % 3 if i % 3 else truth, -1]
            entries[str(i)] = {"label": truth, "weak_labels": votes, "data": {"text": text}}
        (path / f"{name}.json").write_text(json.dumps(entries))
    names = {str(i): name for i, name in enumerate(WORDS)}
    (path / "label.json").write_text(json.dumps(names))


def trec(path: Path) -> None:
    path.mkdir(parents=True)
    for name, seed in (("train", 0), ("validation", 1), ("test", 2)):
        rows = [{"text": t, "weak_label": x, "label": x} for t, x in sentences(40, seed)]
        (path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def own_recipe(path: Path) -> None:
    for name in ("noisy", "clean", "test"):
        texts(path.with_name(f"{name}.csv"))
    sections = {"train": "noisy.csv", "meta": "clean.csv", "test": "test.csv"}
    path.write_text(yaml.safe_dump({"data": sections}))


def table_of_runs(path: Path) -> None:
    shutil.copy(ROOT / "recipes" / "tables" / "text.yaml", path)


STAND_INS: list[tuple[str, Callable[[Path], None]]] = [
    (r"(noisy|clean|test)\.csv|runs/mine/reviewed\.csv", texts),
    (r"(clean-|test-)?photos", images),
    (r"(photos|clean|test)\.parquet", image_table),
    (r"votes", wrench),
    (r"my/folder", trec),
    (r"mine\.yaml", own_recipe),
    (r"table\.yaml", table_of_runs),
]


@pytest.fixture(scope="session")
def finished(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, for pages that begin with one."""
    from samacli.__main__ import main

    folder = tmp_path_factory.mktemp("finished")
    before = Path.cwd()
    os.chdir(folder)
    try:
        own_recipe(Path("mine.yaml"))
        with pytest.raises(SystemExit) as end:
            main(
                ["--quiet", "reweight", "mine.yaml", "--model", str(tiny_bert), *QUICK["reweight"],
                 "--baselines", "noisy", "--output", "run"]
            )  # fmt: skip
        assert not end.value.code
    finally:
        os.chdir(before)
    return folder / "run"


@pytest.fixture(scope="session")
def body(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without a head, as pretrained ones come."""
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("body")
    AutoModel.from_pretrained(tiny_bert).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    return folder


@dataclass
class Page:
    """The folder of a page, in which its blocks run."""

    run_sama: Callable[..., tuple[int, str, str]]
    body: Path
    finished: Path
    names: dict[str, Any]

    def provide(self, name: str) -> None:
        """Put there what a block names, if it is not there and stands for a file of the user's."""
        path = Path(name.rpartition("=")[2].removeprefix("./").rstrip("/"))
        if path.is_absolute() or path.exists() or not path.parts:
            return
        for pattern, make in STAND_INS:
            if re.fullmatch(pattern, path.as_posix()):
                return make(path)
        if path.parts[0] == "runs" and len(path.parts) > 1 and not Path(*path.parts[:2]).exists():
            shutil.copytree(self.finished, Path(*path.parts[:2]))
        elif name in MODELS and "," not in name:
            shutil.copytree(self.body, path)

    def shell(self, words: list[str]) -> None:
        """One command; of other programs than `sama`, whether it could be run."""
        program, *arguments = words
        if program == "make":
            subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True)
        elif program == "pip":
            installable(arguments)
        elif program == "export":
            return
        else:
            assert program == "sama", words
            self.sama(arguments)

    def sama(self, arguments: list[str]) -> None:
        given = list(arguments)
        outputs = {"--output", "--json", "--plot", "-o"}
        writes = [b for a, b in itertools.pairwise(given) if a in outputs]
        if given[:2] == ["recipes", "cp"]:
            writes.append(given[3])
        for word in given:
            if word not in writes:
                self.provide(word)
        for place, word in enumerate(given):
            if place and given[place - 1] == "--model" and word in MODELS:
                given[place] = str(self.body)
            if place and given[place - 1] == "--nproc":  # tests/cli/test_processes.py has several
                given[place] = "1"
        if "--resume" in given:  # there is nothing to be gone on with: nobody killed the run before
            shutil.rmtree(writes[-1])
        given += QUICK.get(given[0], [])
        recipe = given[1] if len(given) > 1 else ""
        built_in = recipe in built_in_recipes() or recipe.endswith(".yaml")
        if given[0] == "reweight" and built_in and not recipe.startswith("runs/"):
            given += ["--model", str(self.body), "model.freeze=[]", "model.cache_frozen=false"]
        code, _, err = self.run_sama(*given)
        assert code == 0, f"{shlex.join(['sama', *arguments])}\n{err}"
        for place in writes if "--dry-run" not in given else []:
            assert place == "-" or Path(place).exists(), place

    def python(self, code: str) -> None:
        for name in re.findall(r'"([^"\n]+)"', code):
            self.provide(name)
        exec(compile(code, "block", "exec"), self.names)


def installable(arguments: list[str]) -> None:
    """`pip install` of this package, with extras that it has, or of the viewer of its logs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert arguments[0] == "install"
    for name in arguments[1:]:
        match = re.fullmatch(r"(samacli|\.|tensorboard)(?:\[([\w,]+)\])?", name)
        assert match, name
        assert set((match[2] or "demo").split(",")) <= set(project["optional-dependencies"]), name


@pytest.fixture
def page(
    tmp_path: Path,
    body: Path,
    finished: Path,
    run_sama: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Page:
    monkeypatch.chdir(tmp_path)
    quick = dict(line.split("=") for line in (*TRAINING, *META))

    def quickly(run: Callable[..., Any], *args: Any, **more: Any) -> Any:
        if more.get("model") in MODELS:
            more["model"] = body
        return run(*args, **{**more, "settings": {**more.get("settings", {}), **quick}})

    for name in ("reweight", "prune"):
        wrapped = functools.partial(quickly, getattr(samacli, name))
        monkeypatch.setattr(samacli, name, wrapped, raising=False)
    return Page(run_sama, body, finished, {"__name__": "block"})


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_the_blocks_of_a_page(name: str, page: Page) -> None:
    for block in BLOCKS[name]:
        if block.unrun:
            continue
        if block.language == "python":
            page.python(block.code)
        elif block.language == "json":
            json.loads(block.code)
        elif block.language == "yaml":
            Recipe.model_validate(yaml.safe_load(block.code))
        elif block.language in ("sh", "bash", "console"):
            for words in commands(block):
                page.shell(words)
