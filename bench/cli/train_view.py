"""What a training shows: a bar per network with the time left, and a line per validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from rich import progress as p
from rich.console import Console
from rich.table import Column

HEADLINES = (
    "frechet-1",
    "frechet-4",
    "energy-0.2-map-1",
    "energy-0.2-glass-1",
    "value-0.2-map-1",
    "value-0.2-glass-1",
)
"""Of the many figures, what a line has room for; the journal and MLflow have all."""

Log = Callable[[str, int, Mapping[str, float]], None]
"""(stage, step, figures): where figures are kept besides the screen."""


class Note(NamedTuple):
    """What a training says of itself: mean losses, or what a validation `measured`."""

    stage: str
    steps: int
    step: int
    figures: dict[str, float]
    measured: bool = False


class View:
    """A context in which notes are shown and logged; call it with each."""

    def __init__(self, log: Log, console: Console | None = None) -> None:
        self.log = log
        self.bars: dict[str, p.TaskID] = {}
        self.losses: dict[str, str] = {}
        self.latest: dict[str, str] = {}
        self.progress = p.Progress(
            p.TextColumn("{task.description}"),
            p.BarColumn(bar_width=16),
            p.MofNCompleteColumn(table_column=Column(no_wrap=True)),
            p.TimeRemainingColumn(elapsed_when_finished=True, table_column=Column(no_wrap=True)),
            p.TextColumn("{task.fields[text]}", table_column=Column(overflow="fold")),
            console=console or Console(),
            speed_estimate_period=120,  # longer than a validation takes
        )

    def __enter__(self) -> View:
        self.progress.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def __call__(self, note: Note) -> None:
        """Show one note; the first of a stage starts its bar where the training goes on from."""
        if note.stage not in self.bars:
            self.bars[note.stage] = self.progress.add_task(
                note.stage, total=note.steps, completed=note.step, text=""
            )
        if not note.figures:
            return
        if note.measured:
            self.latest[note.stage] = _text(note.figures, HEADLINES[:2])
            left = f", {self._left(note.stage)} left" if note.step < note.steps else ""
            line = f"{note.stage} {note.step}/{note.steps}{left}: {_text(note.figures, HEADLINES)}"
            self.progress.console.print(line, highlight=False, soft_wrap=True)
        else:
            self.losses[note.stage] = _text(note.figures, note.figures)
        kept = {f"validation.{k}" if note.measured else k: v for k, v in note.figures.items()}
        self.log(note.stage, note.step, kept)
        text = f"{self.losses.get(note.stage, '')}  {self.latest.get(note.stage, '')}"
        self.progress.update(self.bars[note.stage], completed=note.step, text=text)

    def _left(self, stage: str) -> str:
        seconds = self.progress.tasks[self.bars[stage]].time_remaining
        return "?" if seconds is None else str(timedelta(seconds=int(seconds)))


def _text(figures: Mapping[str, float], names: Any) -> str:
    return "  ".join(f"{name} {figures[name]:.4f}" for name in names if name in figures)
