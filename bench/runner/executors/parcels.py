"""What a job takes along to another process: the plugins of this session that its cell names.

A worker finds installed plugins by itself.  A class of a file, of a module in the working folder or
of a notebook is unknown there, so that it travels with the job, pickled by value.
"""

from __future__ import annotations

import sys
from typing import Any

from bench.core import plugins
from bench.core.cells import Cell, canonical
from bench.core.local_source import is_local


def taken_along(cell: Cell, ray: Any) -> tuple[plugins.Local, ...]:
    """The local plugins that a cell names, of which Ray now pickles the modules by value."""
    found = local_plugins(cell)
    for local in found:
        module = sys.modules.get(getattr(local.cls, "__module__", ""))
        if module is not None and module.__name__ != "__main__" and is_local(module.__name__):
            ray.cloudpickle.register_pickle_by_value(module)
    return found


def local_plugins(cell: Cell) -> tuple[plugins.Local, ...]:
    """The plugins that a cell names and that are not installed; parts of its reward among them."""
    names: list[tuple[plugins.Group, str]] = [
        ("tasks", cell.task),
        ("rewards", cell.reward),
        ("methods", cell.method),
    ]
    return plugins.locals_among(names, canonical(cell.reward_params))
