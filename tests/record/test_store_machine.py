"""What the store guarantees, under any order of writes, deaths of the driver, and damage.

A finished cell is never lost and never run twice; it is finished or absent, never half; what is
damaged is noticed when it is read and computed again.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bench.core import atomic
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.record import layout
from bench.record.attempt import Attempt, MetricRow
from bench.record.seals import Damaged
from bench.record.store import Store
from tests.worlds.cheap_run import CONTENT

PLAN = expand(build_suite({**CONTENT, "seeds": 3}))
CELLS = st.integers(0, len(PLAN) - 1)


class Killed(BaseException):
    """The driver is dead."""


def made(cell: str, take: int) -> Attempt:
    """An attempt whose samples and metric say which one it is."""
    rows = (MetricRow("reward", "1", value=float(take), n=4),)
    return Attempt(cell, "ok", samples=b"samples %d" % take, metrics=rows, scores={"reward": [1.0]})


class StoreMachine(RuleBasedStateMachine):
    """A run, and what its finished cells should read as."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="tiltbench-store-"))
        self.finished: dict[str, int] = {}
        self.takes = 0
        self.restart()

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @rule()
    def restart(self) -> None:
        """Another driver, which knows nothing but the files; damage of before is set aside."""
        self.store = Store(str(self.root), "run")
        self.store.open()

    @rule(k=CELLS)
    def run(self, k: int) -> None:
        """The driver runs a cell if it is due."""
        cell = PLAN[k].cell
        if self.store.index.last(cell.id) is not None:
            assert cell.id in self.finished
            return
        assert cell.id not in self.finished, "a finished cell was lost"
        self.takes += 1
        self.store.index.save(cell, made(cell.id, self.takes))
        self.finished[cell.id] = self.takes

    @rule(k=CELLS, at=st.integers(0, 6), cut=st.integers(0, 40))
    def die(self, k: int, at: int, cut: int) -> None:
        """kill -9 amid the `at`-th file of a cell, of which `cut` bytes were written."""
        cell, count, write = PLAN[k].cell, 0, atomic.write
        if cell.id in self.finished:
            return
        self.takes += 1

        def killed(path: Path, data: bytes) -> None:
            nonlocal count
            if count == at:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(f"{path.name}.1.partial").write_bytes(data[:cut])
                raise Killed
            count += 1
            write(path, data)

        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            patch.setattr(atomic, "write", killed)
            self.store.index.save(cell, made(cell.id, self.takes))
            self.finished[cell.id] = self.takes  # it had fewer files
        self.restart()

    @precondition(lambda self: self.finished)
    @rule(k=CELLS, file=st.sampled_from([layout.RESULT, layout.SAMPLES]), bit=st.integers(0, 10**6))
    def damage(self, k: int, file: str, bit: int) -> None:
        """A bit of a stored file flips; the next driver reads it, and runs the cell again."""
        cell = PLAN[k].cell.id
        if cell not in self.finished:
            return
        number = self.store.index.last(cell).number
        path = self.root / "run" / layout.attempt(cell, number, file)
        data = bytearray(path.read_bytes())
        data[bit // 8 % len(data)] ^= 1 << bit % 8
        path.write_bytes(data)
        self.restart()
        with suppress(Damaged, AssertionError):
            self.store.index.samples(cell)
        assert self.store.index.last(cell) is None, "damage went unnoticed"
        assert len(self.store.index.set_aside()) == 1
        del self.finished[cell]

    @invariant()
    def finished_cells_are_whole(self) -> None:
        """Every finished cell reads as it was written, by a driver that starts now."""
        index = Store(str(self.root), "run").index
        for row in PLAN:
            stored, take = index.last(row.id), self.finished.get(row.id)
            assert (stored is not None) == (take is not None)
            if take is not None:
                assert index.samples(row.id) == b"samples %d" % take
                assert index.metrics(row.id)["reward@1"].value == take
        assert not index.damaged


StoreMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestStore = StoreMachine.TestCase
