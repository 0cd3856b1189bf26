"""Pages that scripts make are what the scripts make today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

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
