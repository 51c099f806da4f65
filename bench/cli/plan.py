"""`bench plan`: what a run would compute, without computing it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli import options as o

if TYPE_CHECKING:
    from bench.core.cells import Planned
    from bench.plan.hours import Counted, Estimate
    from bench.plan.rates import Rates
    from bench.record.store import Store

    Prices = Mapping[tuple[str, str], Counted]

EXAMPLE = "bench plan quickstart -b paper-nfe=200"


def plan(
    suite: o.SuiteName = None,
    task: o.Tasks = [],  # noqa: B006
    reward: o.Rewards = [],  # noqa: B006
    method: o.Methods = [],  # noqa: B006
    budget: o.Budgets = [],  # noqa: B006
    seeds: o.Seeds = None,
    name: o.Name = None,
    settings: o.Settings = [],  # noqa: B006
    baselines: o.Baselines = True,
    device: o.Device = None,
    dtype: o.Dtype = None,
    alternatives: Annotated[
        bool, typer.Option("--alternatives", help="Show other settings that use the budget well.")
    ] = False,
    root: o.Root = o.DEFAULT_ROOT,
    as_json: o.AsJson = False,
) -> None:
    """Show the cells, what is stored already, and the parameters that matching chose."""
    from bench.core.units import UNITS
    from bench.plan.expand import expand
    from bench.plan.suite import build_suite
    from bench.record.store import Store
    from bench.runner.run import pilots_of

    content = o.suite_content(
        suite, task, reward, method, budget, seeds, name, settings, baselines, device, dtype
    )
    resolved = build_suite(content, root)
    store = Store(root, resolved.name)
    if any(budget is not None and UNITS[budget.unit].piloted for budget in resolved.budgets()):
        store.open()  # pilots run here, and what they find is kept for the run
    planned = expand(resolved, pilots_of(store))
    rows = [_row(row, store) for row in planned]
    prices = _prices(rows, planned)
    told = [*_with_minutes(rows, planned, root, prices), *_with_hours(rows, planned, prices)]
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        _print(rows, alternatives)
        for judges in dict.fromkeys(str(block.judges) for block in resolved.blocks):
            typer.echo(f"Judges: {judges}.")
        for line in told:
            typer.echo(line)


def _prices(rows: list[dict[str, Any]], planned: list[Planned]) -> Prices:
    """FLOPs per row of the networks that are still to be run, by task and reward."""
    from bench.plan.binding import bind
    from bench.plan.hours import counted

    left = [row for row, told in zip(planned, rows, strict=True) if _is_left(told)]
    pairs = dict.fromkeys((row.task_label, row.reward_label) for row in left)
    return {pair: counted(bind(*pair)) for pair in pairs}


def _with_minutes(
    rows: list[dict[str, Any]], planned: list[Planned], root: str, prices: Prices
) -> list[str]:
    """Give every row that is left its seconds on this machine; what to say of them all."""
    import os

    from bench.runner.minutes import minutes
    from reports.text.numbers import seconds as duration

    pending = {row.row for row, told in zip(planned, rows, strict=True) if _is_left(told)}
    if not pending:
        return []
    found = minutes(planned, lambda row: row.row in pending, root, prices)
    for told, seconds in zip(rows, found.each, strict=True):
        told |= {"seconds": seconds} if _is_left(told) else {}
    counts = {"cell{} that ended here": found.ended, "short trial{}": found.tried}
    by = (f"{n:,} {what.format('' if n == 1 else 's')}" for what, n in counts.items() if n)
    lacking = ", ".join(found.unknown)
    without = f", without {lacking}, which cannot be tried here" if lacking else ""
    if not found.total:
        return [f"How long it takes here is not known: {lacking} cannot be tried."]
    cores = os.cpu_count() or 1
    return [
        f"About {duration(found.total)} on this machine, cell after cell, and "
        f"{duration(found.total / cores)} with {cores} at once{without} (by {' and '.join(by)})."
    ]


def _is_left(told: dict[str, Any]) -> bool:
    return str(told["status"]) == "pending"


def _with_hours(rows: list[dict[str, Any]], planned: list[Planned], prices: Prices) -> list[str]:
    """Give every row that is left its FLOPs and hours by stored rates; what to say of them all.

    Rates that somebody measured are enough to be asked about every suite; the shipped ones speak
    of suites alone whose networks are known.
    """
    from bench.models.external import rates_folder
    from bench.plan.hours import estimated
    from bench.plan.rates import known_rates

    rates = known_rates(rates_folder())
    left = [row for row, told in zip(planned, rows, strict=True) if _is_left(told)]
    if not rates or not left:
        return []
    fits = set[str]()
    for row, told in zip(planned, rows, strict=True):
        if _is_left(told):
            own = estimated([row], prices, rates, fits)
            told |= {"flops": own.flops, "hours": own.hours}
    return _said(estimated(left, prices, rates, set()), rates)


def _said(total: Estimate, rates: list[Rates]) -> list[str]:
    """A sentence for every device whose rates are stored."""
    lacking = " and ".join(sorted(total.unknown))
    if not total.flops and all(known.shipped for known in rates):
        return []
    if not total.flops:
        return [f"Hours are not known: nobody says of which shape the networks of {lacking} are."]
    without = f", without {lacking}, of whose networks nobody says the shape" if lacking else ""
    lines = []
    for known in rates:
        hours = total.hours[known.file]
        took = "no hours, as it has no rates of this dtype" if hours is None else f"{hours:.3g} h"
        lines.append(
            f"About {total.flops:.3g} FLOPs still to compute{without}: {took} on {known.device} "
            f"at the rates of {known.file}."
        )
    return lines


def _row(row: Planned, store: Store) -> dict[str, Any]:
    stored = store.index.last(row.id) if row.status == "pending" else None
    return {
        "cell": row.id,
        "task": row.task_label,
        "reward": row.reward_label,
        "strength": row.cell.strength,
        "method": row.method_label,
        "budget": str(row.budget or ""),
        "seed": row.cell.seed,
        "n": row.cell.total,
        "status": stored.attempt.status if stored else row.status,
        "reason": row.reason,
        "matched": row.matched,
        "cost": row.expected if row.expected == row.expected else row.predicted.cost("paper-nfe"),
        "rows": row.predicted.cost("paper-nfe"),
        "fit": None if row.fit is None else row.fit.cost,
        "fit_matched": {} if row.fit is None else row.fit.matched,
        "use": None if row.use != row.use else row.use,
        "underused": row.underused,
        "alternatives": [{**values, "use": use} for values, use in row.alternatives],
    }


def _print(rows: list[dict[str, Any]], alternatives: bool) -> None:
    """A table per task and reward; seeds are folded into a count."""
    from bench.cli.console import wide_console

    worlds: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        title = f"{row['task']}, {row['reward']} x {row['strength']:g}"
        worlds.setdefault(title, []).append(row)
    console = wide_console(160 if alternatives else 80)
    for title, members in worlds.items():
        console.print(_table(title, members, alternatives))
    total = sum(r["rows"] * r["n"] for r in rows if r["status"] == "pending")
    console.print(f"{len(rows)} cells; about {total:,.0f} rows still to compute.")


def _table(title: str, rows: list[dict[str, Any]], alternatives: bool) -> Any:
    """A line per method and budget; columns that would be empty are left out."""
    from rich import box
    from rich.table import Table

    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["budget"]), []).append(row)
    lines = [_line(members, alternatives) for members in groups.values()]
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    shown = [name for name in lines[0] if any(line[name] for line in lines)]
    for name in shown:
        words = name in WORDS
        table.add_column(
            name,
            justify="left" if words else "right",
            no_wrap=name == "fit" or (name == "budget" and len(lines[0][name]) <= SHORT),
            overflow="fold",
            min_width=WORDS.get(name),
        )
    for line in lines:
        table.add_row(*(line[name] for name in shown))
    return table


WORDS = {"method": 11, "budget": 13, "matched": 13, "would also fit": 20, "note": None}
"""Columns of words, and how narrow a terminal may make them."""

SHORT = 16
"""Characters of a budget that is never broken."""


def _line(members: list[dict[str, Any]], alternatives: bool) -> dict[str, str]:
    """Of cells that differ in their seed and condition; "" for what there is nothing to say of."""
    first, stored = members[0], sum(m["status"] == "ok" for m in members)
    note = first["reason"] or ("underused" if first["underused"] else "")
    if alternatives:
        others = ({k: v for k, v in a.items() if k != "use"} for a in first["alternatives"])
        note = note or "; ".join(map(_values, others))
    return {
        "method": first["method"],
        "budget": first["budget"],
        "matched": _values(first["matched"] | first["fit_matched"]),
        "cost": f"{first['cost']:g}",
        "fit": "" if first["fit"] is None else f"{first['fit']:.4g}",
        "use": "" if first["use"] is None else f"{first['use']:.2f}",
        "cells": str(len(members)),
        "stored": str(stored) if stored else "",
        "hours": _hours(members),
        "would also fit" if alternatives else "note": note,
    }


LEAST_HOURS = 0.005
"""Less than this on a device of stored rates is nothing that anybody waits for."""


def _hours(members: list[dict[str, Any]]) -> str:
    """Of the cells that are left, by the only rates; "?" where they are not known."""
    timed = [list(m["hours"].values()) for m in members if len(m.get("hours", ())) == 1]
    found = [hours for (hours,) in timed]
    known = [hours for hours in found if hours is not None]
    if len(known) < len(found):
        return "?"
    return f"{sum(known):.3g}" if sum(known) > LEAST_HOURS else ""


def _values(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())
