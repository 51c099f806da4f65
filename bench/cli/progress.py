"""Progress of a run and of a sweep, on standard error."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bench.core.names import printable

if TYPE_CHECKING:
    from rich.console import Console

    from bench.core.cells import Planned
    from bench.record.attempt import Attempt
    from sweeps.study import Study


class CellProgress:
    """A live bar on a terminal or in a notebook with widgets, a line per tenth elsewhere.

    Nothing when quiet.
    """

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)
        self.quiet, self.done, self.failed, self.total = quiet, 0, 0, 0
        self.bar: Any = None

    def __enter__(self) -> CellProgress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def say(self, text: str) -> None:
        """A line, unless quiet."""
        if not self.quiet:
            self.console.print(text)

    def begin(self, total: int, workers: int) -> None:
        """Start the bar; the cells that sample from fits come after the fits, with their own."""
        from rich import progress as p

        self.done, self.total = 0, total
        self.__exit__()
        if self.quiet:
            return
        self.console.print(f"{total} cells on {workers} worker{'s' * (workers > 1)}")
        if self.console.is_terminal or _has_widgets(self.console):
            self.bar = p.Progress(
                p.TextColumn("{task.description}"),
                p.BarColumn(),
                p.MofNCompleteColumn(),
                p.TimeElapsedColumn(),
                p.TextColumn("left"),
                p.TimeRemainingColumn(),
                p.TextColumn("[red]{task.fields[bad]}"),
                console=self.console,
            )
            self.task = self.bar.add_task(f"{workers} running", total=total, bad="")
            self.bar.start()

    def finished(self, row: Planned, attempt: Attempt) -> None:
        """Advance."""
        self.done += 1
        bad = attempt.status != "ok"
        self.failed += bad
        if self.quiet:
            return
        if bad:
            said = (
                f"{attempt.status}: {row.method_label} on {row.task_label}, "
                f"{row.reward_label}, seed {row.cell.seed}: {attempt.reason}"
            )
            self.console.print(printable(said), markup=False)
        if self.bar is not None:
            note = f"{self.failed} failed" if self.failed else ""
            self.bar.update(self.task, advance=1, bad=note)
        elif self.done % -(-self.total // 10) == 0:
            self.console.print(f"{self.done}/{self.total} cells, {self.failed} failed")


def _has_widgets(console: Console) -> bool:
    """Whether this is a notebook in which a bar can move."""
    return console.is_jupyter and find_spec("ipywidgets") is not None


class TrialProgress:
    """Progress of a sweep: a line per tenth of the trials, then the bar of the comparison."""

    def __init__(self, progress: CellProgress) -> None:
        self.progress = progress
        self._said: dict[str, int] = {}

    def begin(self, total: int, workers: int) -> None:
        """The comparison begins."""
        self.progress.begin(total, workers)

    def finished(self, row: Planned, attempt: Attempt) -> None:
        """A cell of the comparison ended."""
        self.progress.finished(row, attempt)

    def trial(self, study: Study, attempt: Attempt) -> None:
        """A cell of a trial ended."""
        tenth = 10 * len(study.trials) // study.spec.trials
        if tenth == self._said.get(study.id):
            return
        self._said[study.id] = tenth
        self.progress.say(
            f"{study.label}: trial {len(study.trials)} of at most {study.spec.trials}"
        )
