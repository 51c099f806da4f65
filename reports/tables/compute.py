"""The ledger: what every row's work was made of, what was predicted, and what was not matched."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator

from bench.core.units import UNITS
from bench.record.columns import WORK
from reports.data.summary import Entry, ProblemKey, Summary
from reports.figures.palette import MethodLooks
from reports.tables import grid
from reports.tables.grid import Column, TableCell, TableGrid
from reports.tables.headline import (
    Made,
    cost_cell,
    grid_of,
    latency_cell,
    method_column,
    time_cell,
    underused_note,
    use_cell,
)
from reports.text.labels import listed
from reports.text.numbers import DASH, rows, scientific, seconds, short, signed_percent, size

SIGNS = {"forward": "fwd", "backward": "bwd", "jvp": "jvp"}

OTHERS, FIT = "other units", "of the whole fit"

DRIFT = 0.1
"""How far measured seconds may be from the predicted ones before the table marks it."""


def compute_grid(summary: Summary, problem: ProblemKey, looks: MethodLooks) -> TableGrid:
    """Rows per sample by callable and direction, then the totals, then time and memory."""
    entries = summary.of(problem)
    nfe, once, time = "paper-nfe per sample", "paper-nfe once", "time"
    used = [w for w in WORK if any(e.per_sample(f"sample_{w}") > 0 for e in entries)]
    fitted = [e for e in entries if e.mean("fit_paper_nfe") > 0]
    trained = [w for w in WORK if any(e.mean(f"fit_{w}") > 0 for e in fitted)]
    made = [
        method_column(looks),
        *(_rows(name) for name in used),
        (Column("predicted", "before the run, from parameters alone", nfe), _predicted),
        (Column("measured", "counted at the callables", nfe), cost_cell),
        _mean("fit_paper_nfe", Column("fit", "of the whole fit", once), _once),
        _mean("map_paper_nfe", Column("map", "of training the map it uses", once), _once),
        (Column("use", "measured / budget", "budget"), use_cell),
        (Column("drift", "measured / predicted seconds − 1", "budget"), _drift),
        _mean("model_nfe", Column("model-nfe", "per returned sample", OTHERS), short),
        _mean("flops", Column("FLOPs", "per returned sample", OTHERS), scientific),
        _mean(
            "joules", Column("energy", "joules of a cell, where the device tells", OTHERS), short
        ),
        (Column("sampling", "all samples of a cell", time), time_cell),
        (Column("per sample", "sampling / samples", time), latency_cell),
        _mean("peak_bytes", Column("peak", "peak memory of a cell", "memory"), size),
        *(_fit_rows(name) for name in trained),
        (Column("predicted fit", "in paper-nfe, before the run", FIT, folded=True), _predicted_fit),
        _mean("fit_flops_total", Column("fit FLOPs", "of the whole fit", FIT, folded=True), _large),
        _mean("fit_seconds_total", Column("fit time", "of the whole fit", FIT, folded=True), _took),
    ]
    known = {
        **dict.fromkeys(("fit", "predicted fit", "fit FLOPs", "fit time"), bool(fitted)),
        "energy": any(e.mean("joules") > 0 for e in entries),
        "map": has_maps(entries),
        "drift": any(map(_timed, entries)),
        "FLOPs": any(e.mean("flops") > 0 for e in entries),
    }
    shown = [m for m in made if known.get(m[0].title, True)]
    return grid_of(summary, problem, shown, _notes(entries))


def _rows(name: str) -> Made:
    role, kind = name.split("_")
    tip = f"{kind} rows of {role} per returned sample"

    def cell(entry: Entry) -> TableCell:
        count = entry.per_sample(f"sample_{name}")
        return grid.number(rows(count), count)

    return Column(SIGNS[kind], tip, f"{role} rows"), cell


def _fit_rows(name: str) -> Made:
    """Rows of a whole fit; hidden until asked for."""
    role, kind = name.split("_")
    tip = f"{kind} rows of {role}, of the whole fit"
    column = Column(f"{role} {SIGNS[kind]}", tip, FIT, folded=True)
    return _mean(f"fit_{name}", column, lambda value: scientific(value) if value > 0 else "·")


def _large(value: float) -> str:
    return scientific(value) if value > 0 else DASH


def _took(value: float) -> str:
    return seconds(value) if value > 0 else DASH


def _mean(name: str, column: Column, form: Callable[[float], str]) -> Made:
    return column, lambda entry: grid.number(form(entry.mean(name)), entry.mean(name))


def _once(value: float) -> str:
    return scientific(value) if value > 0 else rows(value)


def _predicted(entry: Entry) -> TableCell:
    """Marked where the measured work is not what was predicted."""
    predicted, measured = entry.mean("predicted_paper_nfe"), entry.mean("paper_nfe")
    off = abs(predicted - measured) > 1e-6 * max(1.0, abs(measured))
    return grid.number(
        short(predicted),
        predicted,
        warn=off,
        tip="the prediction differs from what was measured" if off else "",
    )


def _predicted_fit(entry: Entry) -> TableCell:
    """Marked as the other prediction is."""
    predicted, measured = entry.mean("predicted_fit_paper_nfe"), entry.mean("fit_paper_nfe")
    off = abs(predicted - measured) > 1e-6 * max(1.0, abs(measured))
    tip = "the prediction differs from what was measured" if off else ""
    return grid.number(_once(predicted), predicted, warn=off, tip=tip)


def _timed(entry: Entry) -> bool:
    """Whether the entry's budget is in time, whose prediction rests on measured rates."""
    units = (UNITS.get(unit) for unit in entry.cells["budget_unit"].unique())
    return any(unit.timed for unit in units if unit is not None)


def _drift(entry: Entry) -> TableCell:
    """Mean over cells; marked where any single one is further off than `DRIFT`."""
    if not _timed(entry):
        return grid.number("", math.nan)
    known, mean = entry.done["drift"].dropna(), entry.mean("drift")
    off = bool((known.abs() > DRIFT).any())
    expected = f"{seconds(entry.mean('expected'))} per sample predicted"
    spread = (
        f"; {signed_percent(known.min())} to {signed_percent(known.max())} over {len(known)} cells"
    )
    tip = expected + spread if len(known) > 1 else expected
    return grid.number(signed_percent(mean), mean, warn=off, tip=tip if len(known) else "")


def _notes(entries: list[Entry]) -> list[str]:
    bound = "a prediction above the measured work is a declared upper bound (adaptive methods)"
    drift = (
        "drift: measured / predicted seconds − 1, mean over cells; coloured where a cell is more "
        "than 10 % off"
    )
    return grid.unique(
        [
            underused_note(entries),
            bound if any(_predicted(e).warn for e in entries) else "",
            drift if any(map(_timed, entries)) else "",
        ]
    )


def upfront(entry: Entry, with_map: bool = False) -> float:
    """Paper-nfe spent before the first sample: the fit, and on request the training of the map."""
    return entry.mean("fit_paper_nfe") + (entry.mean("map_paper_nfe") if with_map else 0.0)


def break_even(one: Entry, other: Entry, with_map: bool = False) -> float:
    """Images served above which `one` costs less in all than `other`.

    total(n) = fit + [training of the map] + n * sample; infinite if `one` never gets cheaper for
    good, 0 if it is cheaper from the first sample on.
    """
    more = upfront(one, with_map) - upfront(other, with_map)
    costs = other.mean("paper_nfe"), one.mean("paper_nfe")
    if not math.isfinite(more + sum(costs)):
        return math.nan
    if math.isclose(*costs, rel_tol=1e-9):
        return 0.0 if more < 0 else math.inf
    saved = costs[0] - costs[1]
    return max(more / saved, 0.0) if saved > 0 else math.inf


def has_fits(entries: Iterable[Entry]) -> bool:
    """Whether any method was fitted."""
    return any(entry.mean("fit_paper_nfe") > 0 for entry in entries)


def has_maps(entries: Iterable[Entry]) -> bool:
    """Whether any method uses a map whose training is known."""
    return any(entry.mean("map_paper_nfe") > 0 for entry in entries)


def matched(entry: Entry) -> str:
    """What matching chose: `draws=4, steps=20`; seeds may differ."""
    texts = dict.fromkeys(entry.cells["matched"])
    parsed = [json.loads(text or "{}") or {} for text in texts]
    return " / ".join(", ".join(f"{k}={v}" for k, v in p.items()) for p in parsed if p) or DASH


def unmatched(summary: Summary) -> list[str]:
    """What equal compute leaves unequal, with the figures of this run."""
    done = [e for e in summary.entries if len(e.done)]
    return [
        f"Memory: {_range(done, lambda e: e.mean('peak_bytes'), size)} at the peak.",
        f"Latency: {_range(done, lambda e: e.per_sample('seconds'), seconds)} per returned sample, "
        "on the device named below; parallel methods gain more from a larger one than sequential "
        "methods do.",
        "Training of the flow map and of the judges: not charged to the methods that use them."
        + "".join(f" {sentence}" for sentence in _trained(done, summary.noun())),
        "Tuning: parameters that matching did not choose are the declared defaults, or were given "
        "in the suite; what it took to find them is not charged.",
    ]


def _trained(done: list[Entry], noun: str) -> Iterator[str]:
    """Who uses a map, and what training it took where that is known."""
    maps = grid.unique(e.method for e in done if e.per_sample("sample_map_forward") > 0)
    if maps:
        yield f"Here {listed([f'`{m}`' for m in maps])} use a map."
    tasks = {e.problem.task: nfe for e in done if (nfe := e.mean("map_paper_nfe")) > 0}
    if tasks:
        costs = listed([f"{scientific(nfe)} paper-nfe on `{t}`" for t, nfe in tasks.items()])
        yield f"Its training took {costs}; the switch above the tables can spread it over {noun}s."


def _range(
    entries: list[Entry], value: Callable[[Entry], float], form: Callable[[float], str]
) -> str:
    """The smallest and the largest value of the run, with the methods that have them."""
    known = [entry for entry in entries if value(entry) > 0]
    if not known:
        return "not recorded"
    low, high = min(known, key=value), max(known, key=value)
    return f"{form(value(low))} (`{low.method}`) to {form(value(high))} (`{high.method}`)"
