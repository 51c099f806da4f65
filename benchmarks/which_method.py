"""Which method for which reward, gradient, map and budget: from the stored tables to one answer.

    python -m benchmarks.which_method

writes the tables of docs/which-method.md and, shorter, of the README, and the figure of both.

Reads the tables of results/ and what every method declares that it needs.  Per reward and budget:
the row nearest to the law among those that get along with what a reader has.  The nearest of many
is chosen on the same seeds, so rows whose intervals overlap with its own are named beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.core import plugins
from bench.core.methods import Need
from reports.figures.svg import panels, save, styled

PAGE, README = Path("docs/which-method.md"), Path("README.md")
PICTURE = Path("docs/figures/which-method.svg")
START, END = "<!-- made by benchmarks/which_method.py -->", "<!-- end -->"
OTHERS = 3
"""Rows named beside the nearest before the rest is counted."""


@dataclass(frozen=True)
class Row:
    """A method at a budget: its distance to the law and the half-width of the interval."""

    method: str
    budget: str
    value: float
    half: float

    @property
    def needs(self) -> frozenset[Need]:
        """What its class declares."""
        return needs_of(self.method.partition(":")[0])

    def near(self, best: Row) -> bool:
        """Whether the intervals overlap; one without an interval is near only where it is lower."""
        halves = np.nan_to_num(self.half) + np.nan_to_num(best.half)
        return bool(self.value - best.value <= halves)


@dataclass(frozen=True)
class Question:
    """A reward on a task: the title of its table, the metric of the distance, and the budgets."""

    words: str
    short: str
    file: str
    title: str
    metric: str
    budgets: tuple[str, ...]
    unit: str


NATS = "gmm:dimension=16,map_steps=8 · "
MOVES = ("paper-nfe=100", "paper-nfe=500")
FLOORS = "sliced W2, in floors"
QUESTIONS = (
    Question("smooth reward, moderate tilt (linear, 3 nats, 16 dimensions)", "linear, 3 nats",
             "moves", NATS + "linear, strength 1.811", "sliced-w2", MOVES, FLOORS),
    Question("smooth reward, strong tilt (linear, 30 nats, 16 dimensions)", "linear, 30 nats",
             "moves", NATS + "linear, strength 6.534", "sliced-w2", MOVES, FLOORS),
    Question("sharp reward (an observation with little noise, 16 dimensions)", "sharp observation",
             "moves", NATS + "inverse", "sliced-w2", MOVES, FLOORS),
    Question("classifier on pictures (real digits, `class-mixture`)", "classifier, digits",
             "methods-digits", "digits · class-mixture", "frechet",
             ("paper-nfe=60", "paper-nfe=240", "paper-nfe=960"), "Frechet distance"),
)  # fmt: skip

HAVE: Mapping[str, frozenset[Need]] = {
    "the flow alone": frozenset(),
    "and a gradient of the reward": frozenset({Need.REWARD_GRADIENT}),
    "and a flow map": frozenset({Need.FLOW_MAP}),
}
"""What a reader has; with map and gradient together nothing was nearer than with the map alone."""

COLOURS = dict(zip(HAVE, ("#777777", "#d55e00", "#0072b2"), strict=True))
MARKS = dict(zip(HAVE, "s^o", strict=True))
ABOVE = dict(zip(HAVE, (7, -4, -13), strict=True))
"""Where a name stands from its point."""


@cache
def needs_of(name: str) -> frozenset[Need]:
    """Of a method by its defaults."""
    found: frozenset[Need] = plugins.load("methods", name).create().needs
    return found


def rows_of(question: Question, results: Path = Path("results")) -> list[Row]:
    """The contestants of a stored table, in multiples of the floor where it names one."""
    head, *lines = _table((results / f"{question.file}.md").read_text(encoding="utf-8"), question)
    names = _cells(head)
    at = {name: names.index(name) for name in ("method", question.metric)}
    budget = names.index("budget")
    rows = [(_cells(line), line) for line in lines]
    values = [(c[at["method"]], c[budget], *_number(c[at[question.metric]])) for c, _ in rows]
    found = [Row(m.split("`")[1], b, v, h) for m, b, v, h in values if "(" not in m]
    floors = {row.budget: row.value for row in found if row.method == "exact"}
    kept = [row for row in found if np.isfinite(row.value) and row.method not in ("exact", "prior")]
    return [_in_floors(row, floors.get(row.budget, 1.0)) for row in kept]


def _in_floors(row: Row, floor: float) -> Row:
    return Row(row.method, row.budget, row.value / floor, row.half / floor)


def _table(text: str, question: Question) -> list[str]:
    """The head and the rows below a title."""
    after = text.split(f"**{question.title}**", 1)[1]
    own = after.split("\n**", 1)[0].splitlines()
    head, _, *rows = [line for line in own if line.startswith("|")]
    return [head, *rows]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n ").split(" | ")]


def _number(text: str) -> tuple[float, float]:
    value, _, half = text.partition(" ± ")
    known = re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?", value)
    return (float(value) if known else np.nan, float(half) if half else np.nan)


def ranked(rows: Sequence[Row], budget: str, have: frozenset[Need]) -> list[Row]:
    """Those that get along with it, nearest first; a fit is another bargain, and has its column."""
    own = [r for r in rows if r.budget == budget and r.needs <= have]
    return sorted(own, key=lambda row: row.value)


def fitted(rows: Sequence[Row], budget: str) -> list[Row]:
    """Those that train first."""
    own = [r for r in rows if r.budget == budget and Need.FIT in r.needs]
    return sorted(own, key=lambda row: row.value)


def said(found: Sequence[Row], named: int = OTHERS) -> str:
    """The nearest row, and who cannot be told from it: `named` of them, and how many more."""
    if not found:
        return "not run"
    best, ties = found[0], [f"`{r.method}`" for r in found[1:] if r.near(found[0])]
    half = f" ± {best.half:.2g}" if np.isfinite(best.half) else ""
    more = f" and {len(ties) - named} more" if len(ties) > named else ""
    others = f" (or {', '.join(ties[:named])}{more})" if ties else ""
    return f"`{best.method}` {best.value:.2f}{half}{others}"


def lines(results: Path = Path("results")) -> Iterator[str]:
    """The table of the page."""
    yield f"| reward | evaluations | {' | '.join(HAVE)} | after a fit |"
    yield "|" + "---|" * (len(HAVE) + 3)
    for question in QUESTIONS:
        rows = rows_of(question, results)
        for budget in question.budgets:
            cells = [said(ranked(rows, budget, have)) for have in HAVE.values()]
            fit = said(fitted(rows, budget))
            amount = budget.partition("=")[2]
            words = f"{question.words}: {question.unit}" if budget == question.budgets[0] else ""
            yield f"| {words} | {amount} | {' | '.join(cells)} | {fit} |"


def short_lines(results: Path = Path("results")) -> Iterator[str]:
    """The table of the README: each reward at the second of its budgets."""
    yield f"| reward | evaluations | {' | '.join(HAVE)} |"
    yield "|" + "---|" * (len(HAVE) + 2)
    for question in QUESTIONS:
        rows, budget = rows_of(question, results), question.budgets[1]
        cells = [said(ranked(rows, budget, have), 1) for have in HAVE.values()]
        words = f"{question.short} ({question.unit})"
        yield f"| {words} | {budget.partition('=')[2]} | {' | '.join(cells)} |"


def written(page: str, table: Iterable[str]) -> str:
    """A page with its table made anew."""
    before, rest = page.split(START, 1)
    return f"{before}{START}\n\n" + "\n".join(table) + f"\n\n{END}{rest.split(END, 1)[1]}"


def picture(results: Path = Path("results")) -> Figure:
    """A panel per reward: the nearest row of what a reader has, against the budget."""
    with styled():
        figure, axes = panels(len(QUESTIONS), 2, 5.2, 3.3)
        for axis, question in zip(axes, QUESTIONS, strict=True):
            _panel(axis, question, rows_of(question, results))
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="upper center", ncols=3, frameon=False)
        figure.subplots_adjust(left=0.07, right=0.97, top=0.88, bottom=0.08, hspace=0.4)
        return figure


def _panel(axis: Axes, question: Question, rows: Sequence[Row]) -> None:
    axis.set(title=question.short, ylabel=question.unit, xlabel="paper-nfe per sample")
    axis.set_yscale("log")
    places = np.arange(len(question.budgets))
    axis.set_xticks(places, [b.partition("=")[2] for b in question.budgets])
    axis.set_xlim(-0.15, len(places) - 0.35)
    named: set[Row] = set()
    means: list[float] = []
    for name, have in HAVE.items():
        best = [ranked(rows, budget, have)[0] for budget in question.budgets]
        values = [row.value for row in best]
        means += values
        half = np.nan_to_num([row.half for row in best])
        below = np.minimum(half, 0.95 * np.array(values))  # the axis is logarithmic
        axis.errorbar(
            places, values, yerr=[below, half], color=COLOURS[name],
            marker=MARKS[name], ms=6, lw=1.3, elinewidth=0.9, label=name,
        )  # fmt: skip
        for place, row in zip(places, best, strict=True):
            if row in named:
                continue
            named.add(row)
            axis.annotate(
                row.method, (float(place), row.value), (8, ABOVE[name]), textcoords="offset points",
                color=COLOURS[name], fontsize=8,
            )  # fmt: skip
    ticks = [a * 10.0**k for k in range(-2, 4) for a in (1, 1.5, 2, 3, 5, 7)]
    low_end, high_end = min(means) / 1.6, max(means) * 1.6
    axis.set_ylim(low_end, high_end)
    shown = [t for t in ticks if low_end <= t <= high_end]
    axis.set_yticks(shown, [f"{t:g}" for t in shown])
    axis.minorticks_off()


def main() -> None:
    """Write the tables and the picture."""
    for page, table in ((PAGE, lines()), (README, short_lines())):
        page.write_text(written(page.read_text(encoding="utf-8"), table), encoding="utf-8")
    save(picture(), PICTURE)


if __name__ == "__main__":
    main()
