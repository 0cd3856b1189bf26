"""Imports point one way, layer by layer; the meta algorithm imports nothing of ours."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import samacli

PACKAGE = Path(samacli.__file__).parent

# Each layer may import itself and those after it.
LAYERS = [
    {"cli", "__main__"},
    {"api", "trainer"},
    {"workflows"},
    {"report"},
    {"export", "pruning"},
    {"training"},
    {"data", "models"},
    {"recipe", "progress", "meta"},
    {"errors"},
    {"redact"},
]


def layer(module: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if module in names)


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return names


FILES = sorted(file for file in PACKAGE.rglob("*.py") if "_recipes" not in file.parts)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_one_way(file: Path) -> None:
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in imported(file):
        parts = name.split(".")
        if parts[0] != "samacli" or len(parts) == 1:
            continue
        assert layer(parts[1]) >= layer(own), f"{file} imports {name}"
        if own == "meta":
            assert parts[1] == "meta", f"{file} imports {name}"


def test_the_meta_algorithm_depends_on_torch_alone() -> None:
    allowed = {"samacli", "torch", "__future__"}
    standard = __import__("sys").stdlib_module_names
    for file in (PACKAGE / "meta").rglob("*.py"):
        for name in imported(file):
            assert name.split(".")[0] in allowed | set(standard), f"{file} imports {name}"


def test_only_the_command_line_prints() -> None:
    for file in FILES:
        if "cli" in file.relative_to(PACKAGE).parts:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            is_print = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
            assert not is_print, file
