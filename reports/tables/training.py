"""Where the losses of fits began and ended: the text of the figure of training curves."""

from __future__ import annotations

from collections.abc import Sequence

from reports.data.training import MOST_FITS, Loss
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.grid import Column, RowGroup, TableCell, TableGrid, TableRow
from reports.text.numbers import short

COLUMNS = [
    Column("method", numeric=False),
    Column("loss", "as the method's training logged it", numeric=False),
    Column("fits", "that logged it, of all fits of the method here"),
    Column("steps", "the last that was logged"),
    Column("first", "mean over fits of the first tenth of what each logged"),
    Column("last", "the same of the last tenth", better="lower"),
]


def training_grid(found: Sequence[Loss], looks: MethodLooks) -> TableGrid:
    """A row per method and loss."""
    lines = [_line(loss, looks) for loss in found]
    return TableGrid(COLUMNS, [RowGroup("", lines)], _notes(found))


def _line(loss: Loss, looks: MethodLooks) -> TableRow:
    colour = looks[loss.method].colour
    return TableRow([
        grid.text(loss.method, colour=colour, code=True),
        grid.text(loss.name),
        grid.number(_counted(loss), loss.fits),
        grid.number(short(loss.steps), loss.steps),
        _over_fits(loss.ends(last=False)),
        _over_fits(loss.ends(last=True)),
    ])  # fmt: skip


def _counted(loss: Loss) -> str:
    return str(loss.fits) if len(loss.curves) == loss.fits else f"{len(loss.curves)} of {loss.fits}"


def _over_fits(values: Sequence[float]) -> TableCell:
    """The mean; of several fits their range beside it."""
    mean = sum(values) / len(values)
    ends = f"{short(min(values))} to {short(max(values))}" if len(values) > 1 else ""
    return grid.number(short(mean), mean, minor=ends)


def _notes(found: Sequence[Loss]) -> list[str]:
    several = any(len(loss.curves) > 1 for loss in found)
    unread = any(loss.fits > MOST_FITS for loss in found)
    return grid.unique([
        "a loss is what a method minimises, and no two methods minimise the same: compare a row "
        "with itself",
        "small: the smallest and the largest of the fits" if several else "",
        f"of a method with more than {MOST_FITS} fits the first {MOST_FITS} are shown"
        if unread else "",
    ])  # fmt: skip
