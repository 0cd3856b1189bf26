"""Which code a method runs, as a hash: a row says what made it, a page what has changed since."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

import samacli

_ROOT = Path(samacli.__file__).parent
# What a training run goes through. The others read recipes, tell, write and save: no figure changes
# with them.
ROOMS = ("methods", "runs.prune", "bilevel", "pruning", "training", "meta", "models", "data")
# Where each function is a method of its own. Of other modules the whole counts, but of a package's
# own what it hands on by that name.
_APART = "samacli.methods."


@functools.cache
def code_of(where: str) -> str:
    """Twelve hexadecimal digits of all code that "module:function" reaches in `ROOMS`.

    Comments, docstrings and layout don't count; any other change does, one that changes no figure
    too: what it changed, only running again can tell.
    """
    module, name = where.split(":")
    waiting, reached = [(module, name)], dict[tuple[str, str], str]()
    while waiting:
        place = waiting.pop()
        if place not in reached and place[0] in _files():
            reached[place], more = _part(*place)
            waiting += more
    text = "\n".join(f"{place}\n{reached[place]}" for place in sorted(reached))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def _files() -> dict[str, Path]:
    """The modules of the rooms, by name."""
    found = {}
    for room in ROOMS:
        for file in sorted((_ROOT / room.replace(".", "/")).rglob("*.py")):
            parts = file.relative_to(_ROOT.parent).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@functools.cache
def _part(module: str, name: str) -> tuple[str, list[tuple[str, str]]]:
    """A definition's text, or the whole module's (name ""), and where it leads on to."""
    tree = _parsed(module)
    nodes: list[ast.stmt] = tree.body
    leads: list[tuple[str, str]] = []
    if _apart(module):
        nodes = [node for node in tree.body if name in _defined(node)] if name else []
        said = {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}
        said.add(name)
        own = {one for node in tree.body for one in _defined(node)}
        leads = [(module, one) for one in sorted(said & own - {name})]
        imported = [lead for local, lead in _imports(tree) if local in said]
        imported += [lead for node in nodes for _, lead in _imports(node)]
    else:
        imported = [lead for _, lead in _imports(tree)]
    for source, one in imported:
        whole = f"{source}.{one}"
        if whole in _files():
            source, one = whole, ""
        leads.append((source, one if _apart(source) else ""))
    return "\n".join(ast.unparse(node) for node in nodes), leads


def _apart(module: str) -> bool:
    file = _files().get(module)
    return module.startswith(_APART) or (file is not None and file.stem == "__init__")


def _imports(tree: ast.AST) -> Iterator[tuple[str, tuple[str, str]]]:
    """(its name here, (module, its name there)) of everything taken from this package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                yield alias.asname or alias.name, (node.module, alias.name)


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [
        leaf.id
        for target in targets
        if target is not None
        for leaf in ast.walk(target)
        if isinstance(leaf, ast.Name)
    ]


def _parsed(module: str) -> ast.Module:
    """Without docstrings."""
    tree = ast.parse(_files()[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body or not isinstance(body[0], ast.Expr):
            continue
        first = body[0].value
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            body[0] = ast.Pass()
    return tree
