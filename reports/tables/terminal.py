"""The headline as a data frame, and as tables for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from reports.data.comparisons import winners
from reports.data.entries import summarise
from reports.data.marks import summary_of
from reports.data.run import load_run, tidy_cells, tidy_metrics
from reports.data.summary import Entry, ProblemKey, Summary
from reports.text.labels import ARROWS, budget_label
from reports.text.numbers import decimals, percent, plus_minus, short


def headline(cells: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """One row per task, reward, strength, method and budget.

    Every metric m has the columns m_mean (over seeds), m_half, m_low, m_high (95 % interval) and
    m_note; beside them the measured paper_nfe and model_nfe per sample, the sampling seconds per
    cell, the utilisation, and what did not end ok.
    """
    summary = summarise(tidy_cells(cells), tidy_metrics(metrics))
    return pd.DataFrame([_row(summary, entry) for entry in summary.entries])


def console(run: Path) -> list[Table]:
    """One table per task and reward: for each budget the methods, with their cost and use."""
    loaded = load_run(run)
    summary = summary_of(loaded)
    return [
        _table(summary, problem)
        for problem in summary.problems
        if any(len(entry.done) for entry in summary.of(problem))
    ]


def troubles(run: Path) -> list[str]:
    """What did not end well and why, a line for every reason, with the methods that share it."""
    loaded = load_run(run)
    shared: dict[tuple[str, str], list[str]] = {}
    for entry in summarise(loaded.cells, loaded.metrics).entries:
        if entry.trouble:
            shared.setdefault((entry.problem.title, entry.trouble), []).append(_at(entry))
    return [
        f"{', '.join(dict.fromkeys(who))} on {where}: {why}" for (where, why), who in shared.items()
    ]


def _at(entry: Entry) -> str:
    return f"{entry.method} at {entry.budget}" if entry.budget else entry.method


def _row(summary: Summary, entry: Entry) -> dict[str, Any]:
    p = entry.problem
    row: dict[str, Any] = {
        "task": p.task,
        "reward": p.reward,
        "strength": p.strength,
        "method": entry.method,
        "method_name": entry.name,
        "budget": entry.budget,
        "seeds": int(entry.done["seed"].nunique()),
        "status": entry.status,
        "trouble": entry.trouble,
    }
    for metric in summary.metrics(p):
        found = entry.estimate(metric)
        row[f"{metric}_mean"], row[f"{metric}_half"] = found.mean, found.half
        row[f"{metric}_low"], row[f"{metric}_high"] = found.low, found.high
        row[f"{metric}_note"] = found.note
    costs = ("paper_nfe", "model_nfe", "seconds", "utilisation")
    return row | {name: entry.mean(name) for name in costs} | {"underused": entry.underused}


def main_metrics(summary: Summary, problem: ProblemKey) -> list[str]:
    """Reward, judge and main distance, as far as any method has a value."""
    wanted = ("reward", summary.judge(problem), summary.distance(problem))
    return [metric for metric in wanted if metric and summary.has(problem, metric)]


def _table(summary: Summary, problem: ProblemKey) -> Table:
    table = Table(
        title=problem.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    table.add_column("method", no_wrap=True)
    metrics = main_metrics(summary, problem)
    for metric in metrics:
        arrow = ARROWS.get(summary.info[metric].direction, "")
        table.add_column(f"{metric} {arrow}".strip(), justify="right", no_wrap=True)
    table.add_column("nfe", justify="right", no_wrap=True)
    table.add_column("use", justify="right", no_wrap=True)
    if any(entry.marks for entry in summary.of(problem)):
        table.caption, table.caption_justify = CAPTION, "left"
    for budget in summary.budgets(problem):
        table.add_section()
        table.add_row(Text(budget_label(budget), style="italic"))
        for line in _lines(summary, problem, budget, metrics):
            table.add_row(*line)
    return table


def _lines(
    summary: Summary, problem: ProblemKey, budget: str, metrics: list[str]
) -> list[list[Text]]:
    entries = summary.of(problem, budget)
    columns = [_values(summary, problem, entries, metric) for metric in metrics]
    return [
        [_label(entry), *(column[i] for column in columns), *_costs(entry)]
        for i, entry in enumerate(entries)
    ]


def _values(summary: Summary, problem: ProblemKey, entries: list[Entry], metric: str) -> list[Text]:
    top = winners(summary, problem, metric)
    places = decimals(entry.estimate(metric) for entry in summary.of(problem))
    return [
        Text(plus_minus(entry.estimate(metric), places), style="bold" if entry in top else "")
        for entry in entries
    ]


CAPTION = "bold: clearly the best; never a row with a flag (max: maximises, coll: collapsed)"
FLAGS = {"collapsed": "coll", "maximises": "max"}


def _label(entry: Entry) -> Text:
    """The method, what kind of row it is, and its flags."""
    kinds = (entry.about.tag, entry.preset, entry.fit_label)
    note = next(filter(None, kinds), "") if entry.status == "ok" else entry.status
    label = Text(f"  {entry.method}") + Text(f"  {note}" if note else "", style="dim")
    flags = " ".join(FLAGS[mark.kind] for mark in entry.marks)
    return label + Text(f"  {flags}" if flags else "", style="yellow")


def _costs(entry: Entry) -> tuple[Text, Text]:
    mark, style = ("! ", "yellow") if entry.underused else ("", "")
    use = Text(mark + percent(entry.mean("utilisation")), style=style)
    return Text(short(entry.mean("paper_nfe"))), use
