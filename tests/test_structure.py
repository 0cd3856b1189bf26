"""Imports point one way, room by room, and never in a circle; `meta` takes torch alone."""

from __future__ import annotations

import ast
import graphlib
import sys
from pathlib import Path

import pytest

import samacli

PACKAGE = Path(samacli.__file__).parent

# Each room may import itself and those of later lines, never one beside it.
LAYERS = [
    {"__main__"},
    {"lab"},
    {"cli"},
    {"api", "trainer"},
    {"runs"},
    {"review"},
    {"methods", "report"},
    {"export"},
    {"bilevel", "pruning"},
    {"training"},
    {"store", "models"},
    {"data"},
    {"recipe", "progress", "meta"},
    {"registry"},
    {"errors"},
    {"redact"},
]

FILES = sorted(file for file in PACKAGE.rglob("*.py") if "_recipes" not in file.parts)


def module(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module(file): file for file in FILES}


def imported(file: Path) -> set[str]:
    """Every module that a file names in an import, within functions and for types alone too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                below = f"{node.module}.{alias.name}"
                names.add(below if below in MODULES else node.module)
    return names


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else "__init__"


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """A circle of the graph, its start at both ends; None where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return None


def graph_of_modules() -> dict[str, set[str]]:
    return {
        name: {other for other in imported(file) if other in MODULES and other != "samacli"}
        for name, file in MODULES.items()
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_one_way(file: Path) -> None:
    own = room(module(file))
    if own == "__init__":
        return
    for name in imported(file):
        if name.split(".")[0] != "samacli" or name == "samacli" or room(name) == own:
            continue
        assert layer(room(name)) > layer(own), f"{file} imports {name}"
        assert own != "meta", f"{file} imports {name}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    found = circle(graph_of_modules())
    assert found is None, " → ".join(found or [])


def test_no_folder_imports_itself_by_way_of_others() -> None:
    """What lies in a folder counts as the folder, at every depth."""
    modules = graph_of_modules()
    for depth in range(2, 1 + max(name.count(".") for name in modules)):
        graph: dict[str, set[str]] = {}
        for name, others in modules.items():
            own = ".".join(name.split(".")[:depth])
            cut = {".".join(other.split(".")[:depth]) for other in others}
            graph.setdefault(own, set()).update(cut - {own})
        found = circle(graph)
        assert found is None, " → ".join(found or [])


def test_a_circle_for_types_alone_would_be_seen(tmp_path: Path) -> None:
    """`experiment` imported `recovery`, which imported `experiment` under TYPE_CHECKING."""
    file = tmp_path / "recovery.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from samacli.errors import SamaError\n"
        "def f():\n    import samacli.redact\n",
        encoding="utf-8",
    )
    assert {"samacli.errors", "samacli.redact"} <= imported(file)
    assert circle({"experiment": {"recovery"}, "recovery": {"experiment"}}) is not None


def test_nothing_but_the_entrance_imports_the_laboratory() -> None:
    for name, file in MODULES.items():
        if room(name) not in ("lab", "__main__"):
            assert not any(room(other) == "lab" for other in imported(file) if "." in other), name


def test_the_meta_algorithm_depends_on_torch_alone() -> None:
    allowed = {"samacli", "torch", "__future__"} | set(sys.stdlib_module_names)
    for file in (PACKAGE / "meta").rglob("*.py"):
        for name in imported(file):
            assert name.split(".")[0] in allowed, f"{file} imports {name}"


def test_only_the_command_line_prints() -> None:
    for file in FILES:
        parts = file.relative_to(PACKAGE).parts
        if parts[0] == "cli" or parts[:2] == ("lab", "commands"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            is_print = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
            assert not is_print, file
