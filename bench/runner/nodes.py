"""What a machine brings to a run, and where two machines differ.

Cells of one run are computed on several machines and compared with one another, so that all have to
run the same code on the same weights.  Who does not is refused by name before it computes anything.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch

from bench.core import plugins
from bench.core.cells import Cell, canonical
from bench.core.params import UserError
from bench.runner.instances import cached_task, make

PACKAGES = ("bench", "methods", "rewards")
"""What computes samples and measures them."""


@dataclass(frozen=True)
class Machine:
    """Versions and devices of a machine; `code` is the SHA-256 of the sources of `PACKAGES`."""

    host: str
    python: str
    torch: str
    tiltbench: str
    code: str
    cores: int
    gpus: tuple[str, ...] = ()

    @staticmethod
    def here() -> Machine:
        """This one."""
        cards = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
        return Machine(
            platform.node(),
            platform.python_version(),
            torch.__version__,
            version("tiltbench"),
            code_digest(),
            os.cpu_count() or 1,
            tuple(torch.cuda.get_device_name(card) for card in cards),
        )


@dataclass(frozen=True)
class Look:
    """A machine, and what it lacks of what cells need, a sentence each."""

    machine: Machine
    lacks: tuple[str, ...] = ()


@cache
def code_digest() -> str:
    """SHA-256 of the sources by which cells are computed here, as they are when first asked for."""
    total = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None and spec.submodule_search_locations
        folder = Path(next(iter(spec.submodule_search_locations)))
        for path in sorted(folder.rglob("*.py")):
            total.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def differences(driver: Machine, other: Machine) -> list[str]:
    """Why cells of the other machine would not be those of the driver, each with what mends it."""
    pairs = [
        ("Python", _minor(driver.python), _minor(other.python), "start Ray there from this Python"),
        ("torch", driver.torch, other.torch, f"run pip install torch=={driver.torch} there"),
        ("tiltbench", driver.tiltbench, other.tiltbench, "install the driver's version there"),
        (
            "code of tiltbench",
            driver.code[:12],
            other.code[:12],
            "install the same commit there and start Ray anew",
        ),
    ]
    return [
        f"its {what} is {theirs} and the driver's {ours}: {fix}"
        for what, ours, theirs, fix in pairs
        if ours != theirs
    ]


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])


def look(cells: Iterable[Cell], paths: Iterable[str] = ()) -> Look:
    """This machine, and what it lacks: of what the cells were planned with, and of these paths."""
    said = [sentence for cell in cells for sentence in lacking(cell)]
    gone = [path for path in paths if not Path(path).exists()]
    said += [f"there is no {path} there: mount it, or copy it to the same place" for path in gone]
    return Look(Machine.here(), tuple(dict.fromkeys(said)))


def lacking(cell: Cell) -> Iterator[str]:
    """Weights and plugins that are not here, or not those with which a cell was planned."""
    yield from _other_versions(cell)
    try:
        found = _weights(cell)
    except UserError as error:
        yield str(error)
        return
    for name, planned in cell.weights.items():
        here = found.get(name)
        if here != planned:
            said = "are not there" if here is None else f"are {here[:12]} there"
            yield (
                f"the weights '{name}' {said} and {planned[:12]} where the run was planned: copy "
                "the file from there"
            )


def _weights(cell: Cell) -> dict[str, str]:
    task = cached_task(cell.task, canonical(cell.task_params))
    reward = make("rewards", cell.reward, cell.reward_params)
    method = make("methods", cell.method, cell.method_params)
    return {**task.weights(), **reward.weights(), **method.weights()}


def _other_versions(cell: Cell) -> Iterator[str]:
    named: tuple[tuple[plugins.Group, str, str], ...] = (
        ("tasks", "task", cell.task),
        ("rewards", "reward", cell.reward),
        ("methods", "method", cell.method),
    )
    for group, role, name in named:
        if name not in plugins.points(group):
            continue  # said when the cell is run
        planned, here = cell.versions.get(role), plugins.version_of(group, name)
        if planned is not None and planned != here:
            yield (
                f"the {role} '{name}' is of version {here} there and {planned} where the run was "
                "planned: install the same package there"
            )
