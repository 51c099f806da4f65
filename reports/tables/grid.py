"""The one shape of all tables in the HTML: columns, groups of rows, notes below."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from reports.data.statistics import MeanInterval
from reports.text.numbers import fixed


@dataclass(frozen=True)
class Column:
    """A heading; `over` is that above it that neighbours share, `minor` a small line below.

    better: "higher" or "lower", which values come first when sorted.  folded: hidden by the page's
    script until asked for.
    """

    title: str
    tip: str = ""
    over: str = ""
    numeric: bool = True
    minor: str = ""
    better: str = ""
    folded: bool = False


@dataclass(frozen=True)
class ImageCost:
    """Work per returned sample, and once: of the fit, and of training the map."""

    sample: float
    fit: float
    training: float


@dataclass(frozen=True)
class TableCell:
    """One entry: text with a smaller second part, a sort key, and a tooltip.

    colour puts a method's dot before the text, tags go behind it.  From cost the page computes
    what an image costs when the work done once is spread over the images served; a relative cell
    ("contestant" or "reference") shows that in multiples of the table's cheapest contestant.
    shade: of a heat map, the larger the better; None for a cell without one.
    """

    text: str
    minor: str = ""
    sort: float | str = ""
    tip: str = ""
    bold: bool = False
    colour: str = ""
    tags: tuple[str, ...] = ()
    warn: bool = False
    code: bool = False
    cost: ImageCost | None = None
    relative: str = ""
    shade: int | None = None


@dataclass(frozen=True)
class TableRow:
    """A row; a muted one has nothing to show."""

    cells: list[TableCell]
    muted: bool = False


@dataclass(frozen=True)
class RowGroup:
    """Rows under a heading of their own, within which they are sorted."""

    title: str
    lines: list[TableRow]


@dataclass(frozen=True)
class TableGrid:
    """A table; the notes explain its dashes and marks on paper, where tooltips do not reach."""

    columns: list[Column]
    groups: list[RowGroup]
    notes: list[str] = field(default_factory=list)

    @property
    def overs(self) -> list[tuple[str, int]]:
        """The headings above the headings, with how many columns each spans."""
        runs: list[tuple[str, int]] = []
        for column in self.columns:
            same = bool(runs) and runs[-1][0] == column.over
            runs[-1:] = [(column.over, runs[-1][1] + 1)] if same else [*runs[-1:], (column.over, 1)]
        return runs if any(over for over, _ in runs) else []

    @cached_property
    def usual(self) -> str:
        """What most intervals of the table are over, said once below it and not in every cell.

        "" where an interval says nothing, and so would seem to be one of them.
        """
        cells = (cell for group in self.groups for line in group.lines for cell in line.cells)
        tips = Counter(cell.tip for cell in cells if cell.minor)
        return "" if not tips or "" in tips else tips.most_common(1)[0][0]

    @property
    def said(self) -> list[str]:
        """The notes, and what most intervals are over."""
        usual = [f"±: {self.usual}, where a number says nothing else"]
        return [*self.notes, *(usual if self.usual else [])]


def text(content: str, **rest: object) -> TableCell:
    """A cell that sorts by its text."""
    return TableCell(content, sort=content.lower(), **rest)  # type: ignore[arg-type]


def number(content: str, value: float, **rest: object) -> TableCell:
    """A cell that sorts by its value; unknown values go last."""
    known = float(f"{value:.7g}") if math.isfinite(value) else None
    key = "" if known is None else int(known) if known.is_integer() else known
    return TableCell(content, sort=key, **rest)  # type: ignore[arg-type]


def estimate_cell(value: MeanInterval, places: int, bold: bool = False) -> TableCell:
    """An estimate with its interval; where there is none, a dash that says why."""
    half = f"± {fixed(value.half, places)}" if math.isfinite(value.half) else ""
    return number(fixed(value.mean, places), value.mean, minor=half, tip=_explain(value), bold=bold)


def unique(notes: Iterable[str]) -> list[str]:
    """Notes without empty ones and repetitions, in order."""
    return list(dict.fromkeys(note for note in notes if note))


def _explain(value: MeanInterval) -> str:
    over = " and ".join(
        f"{count} {word}{'s' if count > 1 else ''}" for word, count in value.counts.items()
    )
    spread_over = f"95 % interval over {over}"
    sources = {
        "seeds": spread_over,
        "prompts": spread_over,
        "fits": spread_over,
        "cell": f"{over}: 95 % interval from the cells' own standard errors",
        "one fit": f"one fit, {len(value.by_seed)} seeds: no interval, as another fit may "
        "differ by more than seeds do",
        "none": f"{over}, and no standard error of its own: no interval",
    }
    # What there is to say of known values stands once, in the notes below the table.
    return sources[value.source] if value.known else value.note
