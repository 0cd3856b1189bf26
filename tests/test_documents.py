"""Pages that scripts make are what the scripts make today."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import WORDS, make_texts, sentences

DOCS = Path(__file__).resolve().parents[1] / "docs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_bad_inputs_get_the_sentences_on_their_page() -> None:
    made = script("make_bad_inputs").page()
    assert made == (DOCS / "bad-inputs.md").read_text(encoding="utf-8"), "run make bad-inputs"


@pytest.mark.parametrize("name", ["commands.md", "recipe.md", "python.md"])
def test_the_reference_is_that_of_the_code(name: str) -> None:
    made = script("make_reference").PAGES[name]()
    assert made == (DOCS / "reference" / name).read_text(encoding="utf-8"), "run make reference"


def test_every_page_is_in_the_menu_and_every_link_leads_somewhere() -> None:
    """What `mkdocs build --strict` asks, without mkdocs."""
    menu = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        place = page.relative_to(DOCS).as_posix()
        assert place in menu, place
        text = re.sub(r"(?s)```.*?```", "", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{place}: {target}"


# The tutorials

# What the tutorials' runs take in place of hours of training.
QUICK = ["training.steps=2", "training.precision=fp32", "training.batch_size=8"]
QUICK_META = ["meta.batch_size=8", "repeats=1"]


def commands() -> list[tuple[str, list[list[str]]]]:
    """(tutorial, its commands as words), of the blocks that are marked `sh`."""
    found = []
    for page in sorted((DOCS / "tutorials").glob("*.md")):
        blocks = re.findall(r"(?s)```sh\n(.*?)```", page.read_text(encoding="utf-8"))
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        if lines:
            found.append((page.stem, [shlex.split(line, comments=True) for line in lines]))
    return found


@pytest.fixture
def place(tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data that the tutorials speak of."""
    monkeypatch.chdir(tmp_path)
    make_texts(tmp_path)
    for name, seed in (("train", 0), ("valid", 1), ("test", 2)):
        entries = {}
        for i, (text, label) in enumerate(sentences(36, seed)):
            truth = list(WORDS).index(label)
            votes = [truth, (truth + 1) % 3 if i % 3 else truth, -1]
            entries[str(i)] = {"label": truth, "weak_labels": votes, "data": {"text": text}}
        (tmp_path / "votes").mkdir(exist_ok=True)
        (tmp_path / "votes" / f"{name}.json").write_text(json.dumps(entries))
    classes = {str(i): name for i, name in enumerate(WORDS)}
    (tmp_path / "votes" / "label.json").write_text(json.dumps(classes))
    generator = np.random.default_rng(0)
    for name, count in (("photos", 12), ("clean-photos", 8), ("test-photos", 6)):
        for label in ("cat", "dog"):
            folder = tmp_path / name / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize(("name", "lines"), commands(), ids=lambda value: str(value)[:30])
def test_the_commands_of_a_tutorial(
    name: str, lines: list[list[str]], place: Path, tiny_bert: Path, run_sama: Any
) -> None:
    for words in lines:
        assert words[0] == "sama", words
        given = [str(tiny_bert) if word == "minilm" else word for word in words[1:]]
        if "--nproc" in given:  # several processes are tested in tests/cli/test_processes.py
            given[given.index("--nproc") + 1] = "1"
        if given[0] in ("reweight", "prune"):
            given += [*QUICK, *QUICK_META]
        if given[0] == "train":
            given += QUICK
        code, _, err = run_sama(*given)
        assert code == 0, f"{name}: {' '.join(words)}\n{err}"
        for word in [word for word in given if word.startswith("runs/")][-1:]:
            assert (place / word).exists()


def test_every_dependency_may_be_used_freely() -> None:
    licences = script("make_licences")
    packages = licences.needed()
    assert {"torch", "transformers", "typer", "numpy"} <= set(packages)  # theirs too: numpy
    refused = {
        name: said
        for name, package in packages.items()
        if not licences.ALLOWED.search(said := licences.licence(package))
        or licences.FORBIDDEN.search(said)
    }
    assert not refused
    # A page made elsewhere may lack a package that only this platform needs, never most of them.
    page = (DOCS / "licences.md").read_text(encoding="utf-8")
    assert sum(f"| {name} |" in page for name in packages) > 0.8 * len(packages)
