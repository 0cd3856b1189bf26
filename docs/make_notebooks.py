"""docs/tutorials/notebooks/*.ipynb: their cells are run, and what each gave is written beneath it.

Run it by `make notebooks`. Without Jupyter, whose kernel brings twenty packages along: a cell is
plain Python, what it prints is its text, the value of its last line is shown as HTML where it has
that, and every figure that it leaves open is a picture.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("tutorials") / "notebooks"


def run_cell(code: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs of a cell, as notebooks store them; `names` is the notebook's memory."""
    from matplotlib import pyplot

    tree = ast.parse(code)
    last = tree.body[-1] if tree.body else None
    value = None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(tree.body[:-1], []), "cell", "exec"), names)
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        else:
            exec(compile(tree, "cell", "exec"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append(
            {"name": "stdout", "output_type": "stream", "text": lines(printed.getvalue())}
        )
    if value is not None:
        data = {"text/plain": lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = lines(value._repr_html_())
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    for number in pyplot.get_fignums():
        picture = io.BytesIO()
        pyplot.figure(number).savefig(picture, format="png", dpi=80, bbox_inches="tight")
        encoded = base64.b64encode(picture.getvalue()).decode()
        data = {"image/png": encoded, "text/plain": ["<Figure>"]}
        outputs.append({"output_type": "display_data", "data": data, "metadata": {}})
    pyplot.close("all")
    return outputs


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def execute(path: Path) -> None:
    """Run a notebook in an empty folder, and write it with its outputs."""
    import matplotlib

    matplotlib.use("agg")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        try:
            for cell in notebook["cells"]:
                if cell["cell_type"] == "code":
                    count += 1
                    cell["outputs"] = run_cell("".join(cell["source"]), names)
                    cell["execution_count"] = count
        finally:
            os.chdir(before)
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    for one in sorted(FOLDER.glob("*.ipynb")):
        execute(one)
