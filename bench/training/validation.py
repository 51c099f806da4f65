"""Validation while a network trains: figures of its moving average, now and then, in a journal.

What is measured is handed in as a function.  It gets a copy of the network, on the CPU, and leaves
no trace: neither the weights nor any random number of the training depend on it.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.core import atomic

Measure = Callable[[nn.Module], Mapping[str, float]]
"""A network in evaluation mode -> named figures; none if it has no figures for such a network."""

JournalLine = dict[str, Any]


class Journal:
    """A file of JSON lines that are whole or absent, however the process ended.

    A line is one write to a file opened for appending; what a power cut may leave of a last line
    is passed over by `rows` and dropped by the next `keep`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[JournalLine]:
        """All whole lines."""
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]

    def append(self, row: JournalLine) -> None:
        """Add a line, on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        file = os.open(self.path, flags, 0o644)
        try:
            os.write(file, _line(row))
            os.fsync(file)
        finally:
            os.close(file)

    def keep(self, wanted: Callable[[JournalLine], bool]) -> None:
        """Drop the other lines; the file is replaced as a whole."""
        kept = b"".join(_line(row) for row in self.rows() if wanted(row))
        if not self.path.exists() or kept == self.path.read_bytes():
            return
        atomic.write(self.path, kept)


def _line(row: JournalLine) -> bytes:
    return (json.dumps(row) + "\n").encode()


@dataclass(frozen=True)
class Validation:
    """What a stage measures, every how many steps, and who is told.

    Rows of the journal hold `stage`, `step`, the `seconds` that measuring took, and the figures.
    """

    stage: str
    every: int
    measure: Measure
    journal: Journal
    report: Callable[[int, Mapping[str, float]], None]

    def resume(self, step: int) -> None:
        """Forget what was measured after `step`, where the training goes on from."""
        self.journal.keep(lambda row: row["stage"] != self.stage or row["step"] <= step)

    def planned(self, step: int, last: int) -> bool:
        """Every `every` steps and at the last one."""
        return step > 0 and (step % self.every == 0 or step == last)

    def has(self, step: int) -> bool:
        """Whether the journal has the figures of a step."""
        return any(
            row["stage"] == self.stage and row["step"] == step for row in self.journal.rows()
        )

    def __call__(self, step: int, average: nn.Module) -> None:
        """Measure a copy of the moving average after `step` steps."""
        clock = time.perf_counter()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network = copy.deepcopy(average).to("cpu").eval()
            figures = {name: float(value) for name, value in self.measure(network).items()}
        if figures:
            seconds = round(time.perf_counter() - clock, 3)
            row = {"stage": self.stage, "step": step, "seconds": seconds, **figures}
            self.journal.append(row)
            self.report(step, figures)
