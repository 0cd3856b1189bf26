"""Pages that scripts make are what the scripts make today."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

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
