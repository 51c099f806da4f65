"""The compute table: what was computed, what was predicted, and what was not matched."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable

from reports import grid
from reports.grid import Cell, Column, Grid, Group, Line
from reports.headline import (
    Looks,
    Made,
    cost_cell,
    grid_of,
    method_cell,
    method_column,
    underused_note,
    use_cell,
)
from reports.numbers import DASH, rows, scientific, seconds, short, size
from reports.store import WORK
from reports.summary import Entry, Problem, Summary

SIGNS = {"forward": "fwd", "backward": "bwd", "jvp": "jvp"}


def compute_grid(summary: Summary, problem: Problem, looks: Looks) -> Grid:
    """Rows per sample by callable and direction, then the totals, then time and memory."""
    entries, nfe = summary.of(problem), "paper-nfe per sample"
    used = [w for w in WORK if any(e.per_sample(f"sample_{w}") > 0 for e in entries)]
    made = [
        method_column(looks),
        *(_rows(name) for name in used),
        (Column("predicted", "before the run, from parameters alone", nfe), _predicted),
        (Column("measured", "counted at the callables", nfe), cost_cell),
        (Column("use", "measured / budget", nfe), use_cell),
        _mean("fit_paper_nfe", Column("fit", "paper-nfe of the whole fit"), rows),
        _mean("flops", Column("FLOPs", "per returned sample"), scientific),
        _mean("seconds", Column("cell", "all samples of a cell", "time per"), seconds),
        (Column("sample", "cell / samples", "time per"), _latency),
        _mean("peak_bytes", Column("peak", "peak memory of a cell", "memory"), size),
    ]
    known = {"fit": has_fits(entries), "FLOPs": any(e.mean("flops") > 0 for e in entries)}
    shown = [m for m in made if known.get(m[0].title, True)]
    return grid_of(summary, problem, shown, _notes(entries))


def _rows(name: str) -> Made:
    role, kind = name.split("_")
    tip = f"{kind} rows of {role} per returned sample"

    def cell(entry: Entry) -> Cell:
        count = entry.per_sample(f"sample_{name}")
        return grid.number(rows(count), count)

    return Column(SIGNS[kind], tip, f"{role} rows"), cell


def _mean(name: str, column: Column, form: Callable[[float], str]) -> Made:
    return column, lambda entry: grid.number(form(entry.mean(name)), entry.mean(name))


def _latency(entry: Entry) -> Cell:
    each = entry.per_sample("seconds")
    return grid.number(seconds(each), each)


def _predicted(entry: Entry) -> Cell:
    """Marked where the measured work is not what was predicted."""
    predicted, measured = entry.mean("predicted_paper_nfe"), entry.mean("paper_nfe")
    off = abs(predicted - measured) > 1e-6 * max(1.0, abs(measured))
    return grid.number(
        short(predicted),
        predicted,
        warn=off,
        tip="the prediction differs from what was measured" if off else "",
    )


def _notes(entries: list[Entry]) -> list[str]:
    bound = "a prediction above the measured work is a declared upper bound (adaptive methods)"
    return grid.unique(
        [underused_note(entries), bound if any(_predicted(e).warn for e in entries) else ""]
    )


def break_even(one: Entry, other: Entry) -> float:
    """Images served from which on `one` costs less in all than `other`.

    total(n) = fit + n * sample; infinite if it never does, 0 if it always does.
    """
    fit = one.mean("fit_paper_nfe") - other.mean("fit_paper_nfe")
    saved = other.mean("paper_nfe") - one.mean("paper_nfe")
    if not math.isfinite(fit + saved):
        return math.nan
    return max(fit / saved, 0.0) if saved > 0 else (math.inf if fit >= 0 else 0.0)


def has_fits(entries: Iterable[Entry]) -> bool:
    """Whether any method was fitted."""
    return any(entry.mean("fit_paper_nfe") > 0 for entry in entries)


def break_evens(summary: Summary, problem: Problem, looks: Looks) -> Grid | None:
    """Fitted methods against those without a fit, at every pair of budgets."""
    entries = [e for e in summary.of(problem) if len(e.done)]
    fitted = [e for e in entries if e.mean("fit_paper_nfe") > 0]
    others = [e for e in entries if e.mean("fit_paper_nfe") == 0 and e.name != "exact"]
    if not fitted or not others:
        return None
    columns = [Column("method", numeric=False)] + [
        Column(f"{e.method} at {e.budget}", over="cheaper in all from … images on") for e in fitted
    ]
    lines = [_break_line(other, fitted, looks) for other in others]
    budgets = list(dict.fromkeys(e.budget for e in others))
    groups = [
        Group(b, [line for line, e in zip(lines, others, strict=True) if e.budget == b])
        for b in budgets
    ]
    return Grid(columns, groups)


def _break_line(other: Entry, fitted: list[Entry], looks: Looks) -> Line:
    values = [break_even(one, other) for one in fitted]
    texts = ["never" if math.isinf(v) else short(math.ceil(v)) if v == v else DASH for v in values]
    cells = [grid.number(t, v) for t, v in zip(texts, values, strict=True)]
    return Line([method_cell(other, looks), *cells])


def matched(entry: Entry) -> str:
    """What matching chose: `draws=4, steps=20`; seeds may differ."""
    texts = dict.fromkeys(entry.cells["matched"])
    parsed = [json.loads(text or "{}") or {} for text in texts]
    return " / ".join(", ".join(f"{k}={v}" for k, v in p.items()) for p in parsed if p) or DASH


def unmatched(summary: Summary) -> list[str]:
    """What equal compute leaves unequal, with the figures of this run."""
    done = [e for e in summary.entries if len(e.done)]
    maps = list(dict.fromkeys(e.method for e in done if e.per_sample("sample_map_forward") > 0))
    trained = f" Here {', '.join(f'`{m}`' for m in maps)} use it." if maps else ""
    return [
        f"Memory: {_range(done, lambda e: e.mean('peak_bytes'), size)} at the peak.",
        f"Latency: {_range(done, lambda e: e.per_sample('seconds'), seconds)} per returned sample, "
        "on the device named below; parallel methods gain more from a larger one than sequential "
        "methods do.",
        "Training of the flow map and of the judges: not charged to the methods that use them."
        + trained,
        "Tuning: parameters that matching did not choose are the declared defaults, or were given "
        "in the suite; what it took to find them is not charged.",
    ]


def _range(
    entries: list[Entry], value: Callable[[Entry], float], form: Callable[[float], str]
) -> str:
    """The smallest and the largest value of the run, with the methods that have them."""
    known = [entry for entry in entries if value(entry) > 0]
    if not known:
        return "not recorded"
    low, high = min(known, key=value), max(known, key=value)
    return f"{form(value(low))} (`{low.method}`) to {form(value(high))} (`{high.method}`)"
