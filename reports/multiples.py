"""Distances to the tilted law as multiples of the floor, for documentation."""

from __future__ import annotations

from pathlib import Path

from reports import store
from reports.summary import Entry, Problem, Summary, summarise
from reports.words import RATIO

HEAD = ("method", "sliced W2", "times the floor", "MMD²", "reward", "paper-nfe")


def markdown(run: Path) -> str:
    """A table per problem; the floor is `exact`, its mean over the same seeds.

    A method is said to be within k floors if (mean - 2 standard errors) <= k * floor.
    """
    loaded = store.load(run)
    summary = summarise(loaded.cells, loaded.metrics)
    parts = [_table(summary, problem) for problem in summary.problems]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(summary: Summary, problem: Problem) -> str:
    entries = summary.of(problem)
    floors = [e for e in entries if e.name == "exact" and RATIO in e.estimates]
    if not floors:
        return ""
    floor = floors[0].estimate(RATIO).mean
    lines = [f"**{problem.title}** (floor {floor:.3f})", "", "| " + " | ".join(HEAD) + " |"]
    lines.append("|" + "---|" * len(HEAD))
    return "\n".join(lines + [_line(entry, floor) for entry in entries])


def _line(entry: Entry, floor: float) -> str:
    if RATIO not in entry.estimates:
        return f"| `{entry.method}` | {entry.trouble or entry.status} |" + " |" * (len(HEAD) - 2)
    found = entry.estimate(RATIO)
    cells = [
        f"`{entry.method}`",
        f"{found.mean:.3f} ± {found.error:.3f}",
        f"{found.mean / floor:.2f}",
        _number(entry, "mmd2", ".4f"),
        _number(entry, "reward", ".3g"),
        f"{entry.mean('paper_nfe'):,.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _number(entry: Entry, metric: str, form: str) -> str:
    return format(entry.estimate(metric).mean, form) if metric in entry.estimates else ""
