"""The tables of a run as Markdown, for documentation: one per task and reward."""

from __future__ import annotations

from pathlib import Path

from reports.data.marks import summary_of
from reports.data.run import load_run
from reports.data.summary import Entry, ProblemKey, Summary
from reports.data.trials import load_sweeps
from reports.tables import sweep
from reports.tables.grid import TableCell, TableGrid
from reports.tables.headline import mark_notes
from reports.text.numbers import scientific
from reports.text.price import price_note
from reports.text.replication import replication_notes


def markdown(run: Path) -> str:
    """A table per problem: budget, method, metrics, cost; multiples of the floor if known.

    The floor is the distance of exact draws, the mean over their seeds.  ± is what the page shows,
    a 95 % interval.  Where the run tuned, a table per problem of default against tuned follows.
    """
    loaded, sweeps = load_run(run), load_sweeps(run)
    summary = summary_of(loaded)
    parts = [_table(summary, problem) for problem in summary.problems]
    tuned = [] if sweeps is None or sweeps.tuning.empty else sweep.tables(sweeps, loaded.colours)
    parts += [f"**Tuning: {title}**\n\n{_grid(grid)}" for title, grid in tuned]
    return "\n\n".join([*parts, *_legend(summary)]) + "\n"


def _legend(summary: Summary) -> list[str]:
    """What ± and the marks mean."""
    if not summary.entries:
        return []
    entries = list(summary.entries)
    notes = [*replication_notes(entries), *mark_notes(entries)]
    return ["\n".join(f"- {note[0].upper()}{note[1:]}." for note in notes)] if notes else []


def _table(summary: Summary, problem: ProblemKey) -> str:
    entries, metrics = summary.of(problem), summary.metrics(problem)
    distance = summary.floored(problem) or ""
    floor = _floor(entries, distance)
    fits = any(entry.mean("fit_paper_nfe") > 0 for entry in entries)
    budgets = len({entry.budget for entry in entries}) > 1
    head = [*(["budget"] if budgets else []), "method", *metrics]
    head += [*(["times the floor"] if floor else []), "paper-nfe", "FLOPs"]
    head += ["fit"] if fits else []
    ratio = (distance, floor) if floor else None
    table = _lines(head, [_row(entry, metrics, ratio, budgets, fits) for entry in entries])
    title = f"**{problem.title}**" + (f" (floor of {distance}: {floor:.3f})" if floor else "")
    note = price_note(entries)
    return f"{title}\n\n{table}" + (f"\n\n{note[0].upper()}{note[1:]}." if note else "")


def _lines(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def _grid(grid: TableGrid) -> str:
    """A table of the report without its colours and tooltips."""

    def shown(cell: TableCell) -> str:
        words = f"`{cell.text}`" if cell.code else cell.text
        return f"{words} {cell.minor}".strip()

    rows = [[shown(cell) for cell in line.cells] for group in grid.groups for line in group.lines]
    return _lines([column.title for column in grid.columns], rows)


def _floor(entries: list[Entry], distance: str) -> float | None:
    exact = (e for e in entries if e.is_floor and distance in e.estimates)
    found = [e.estimate(distance).mean for e in exact]
    return found[0] if found else None


def _row(
    entry: Entry, metrics: list[str], ratio: tuple[str, float] | None, budgets: bool, fits: bool
) -> list[str]:
    values = [_value(entry, metric) for metric in metrics]
    if values and not len(entry.done):
        values[0] = entry.trouble or entry.status
    said = [name for name in (entry.preset, *(m.kind for m in entry.marks)) if name]
    marks = f" ({', '.join(said)})" if said else ""
    row = [*([entry.budget] if budgets else []), f"`{entry.method}`{marks}", *values]
    if ratio:
        multiple = entry.estimate(ratio[0]).mean / ratio[1]
        row.append(f"{multiple:.2f}" if multiple == multiple else "")
    cost, fit = entry.mean("paper_nfe"), entry.mean("fit_paper_nfe")
    flops = entry.mean("flops")
    row += [f"{cost:,.0f}" if cost == cost else "", scientific(flops) if flops > 0 else ""]
    return [*row, f"{fit:,.0f}" if fit > 0 else ""] if fits else row


def _value(entry: Entry, metric: str) -> str:
    found = entry.estimate(metric)
    if found.mean != found.mean:
        return ""
    error = f" ± {found.half:.2g}" if found.half == found.half else ""
    return f"{found.mean:.3g}{error}"
