"""Notebooks and pages run without a server: their code in order, in one namespace, in one process.

As a notebook does, the last expression of a cell is shown: by its HTML where it has some.

    python -m tests.worlds.notebooks NOTEBOOK.ipynb|PAGE.md    prints what each cell shows, as JSON
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

from tests.worlds.fences import blocks


def code_cells(notebook: Path) -> list[str]:
    """The sources of a notebook's code cells, or of a page's Python blocks."""
    if notebook.suffix == ".md":
        return blocks(notebook.read_text(encoding="utf-8"), "python")
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def code_lines(notebook: Path) -> list[str]:
    """Lines of code, without blank ones and comments."""
    lines = (line.strip() for cell in code_cells(notebook) for line in cell.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def run_cells(cells: list[str]) -> list[str]:
    """What each cell shows; "" for one that ends in a statement."""
    space: dict[str, Any] = {"__name__": "__main__"}
    return [_run(cell, space) for cell in cells]


def _run(cell: str, space: dict[str, Any]) -> str:
    body = ast.parse(cell).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "<cell>", "exec"), space)
    if last is None:
        return ""
    return _shown(eval(compile(ast.Expression(last.value), "<cell>", "eval"), space))


def _shown(value: Any) -> str:
    html = getattr(value, "_repr_html_", None)
    return str(html()) if html is not None else repr(value)


if __name__ == "__main__":
    print(json.dumps(run_cells(code_cells(Path(sys.argv[1])))))
