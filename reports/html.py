"""The report: one HTML file that needs neither network nor server.

Everything in it is computed from the stored tables, so building it twice gives the same bytes.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.data import run as store
from reports.data import trials
from reports.data.run import Run
from reports.data.summary import Problem, Summary, summarise
from reports.figures.curves import against_compute
from reports.figures.gallery import Gallery, galleries
from reports.figures.judge_against_reward import judge_against_reward
from reports.figures.palette import looks as choose_looks
from reports.tables import compute as ledger
from reports.tables import sweep
from reports.tables.break_even import break_evens
from reports.tables.differences import differences_grid
from reports.tables.headline import Looks, headline_grid
from reports.text import overview as account
from reports.text import reward_hacking as governance
from reports.text.findings import findings
from reports.text.labels import budget_label

TEMPLATES = Path(__file__).parent / "templates"


def build(run: Path) -> Path:
    """Write RUN/report.html from what is stored so far, and return its path.

    Works on unfinished runs; the file is replaced in one step, so a reader never sees half of it.
    """
    target = run / "report.html"
    partial_file = target.with_name(".report.html.partial")
    with partial_file.open("w", encoding="utf-8") as stream:
        stream.write(render(store.load(run)))
        stream.flush()
        os.fsync(stream.fileno())
    return partial_file.replace(target)


def render(run: Run) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": code_spans, "budget_label": budget_label}
    return environment.get_template("report.html").render(_context(run))


def code_spans(text: str) -> Markup:
    """Escaped text in which `backticks` become code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _context(run: Run) -> dict[str, Any]:
    summary = summarise(run.cells, run.metrics)
    looks = choose_looks(summary.colours)
    return {
        "run": run,
        "css": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "script": Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),
        **_account(run, summary, looks),
        "problems": [_problem(run, summary, problem, looks) for problem in summary.problems],
        "reward_curves": _curves(summary, looks, "reward"),
        "distance_curves": _curves(summary, looks, "distance"),
        "has_exact": any(e.is_floor and len(e.done) for e in summary.entries),
        "galleries": _galleries(run, summary, looks),
        "has_fits": ledger.has_fits(summary.entries),
        "has_maps": ledger.has_maps(summary.entries),
        "unmatched": ledger.unmatched(summary),
        "sweeps": sweep.sections(trials.load(run.path), run.colours),
    }


def _account(run: Run, summary: Summary, looks: Looks) -> dict[str, Any]:
    return {
        "finished": account.finished(run),
        "statuses": account.statuses(run),
        "compared": account.compared(run, summary),
        "methods": account.methods_grid(summary, looks),
        "unfinished": account.unfinished_grid(run, summary, looks),
        "reproduction": account.reproduction(run),
    }


def _problem(run: Run, summary: Summary, problem: Problem, looks: Looks) -> dict[str, Any]:
    distance = summary.distance(problem)
    tested = [m for m in ("reward", distance) if m and summary.has(problem, m)]
    tests = [(metric, differences_grid(summary, problem, metric, looks)) for metric in tested]
    return {
        "problem": problem,
        "headline": headline_grid(summary, problem, looks),
        "reading": findings(summary, problem),
        "tests": [(metric, grid) for metric, grid in tests if grid],
        "distance": distance,
        "judge": Markup(judge_against_reward(summary, looks, problem)),
        "warnings": governance.verdict(run.suite, summary, problem),
        "compute": ledger.compute_grid(summary, problem, looks),
        "break_evens": break_evens(summary, problem, looks),
    }


def _galleries(run: Run, summary: Summary, looks: Looks) -> list[tuple[Problem, list[Gallery]]]:
    found = galleries(run, summary, looks)
    groups = [(p, [g for g in found if g.problem == p]) for p in summary.problems]
    return [(problem, shown) for problem, shown in groups if shown]


def _curves(summary: Summary, looks: Looks, kind: str) -> Markup:
    pick = partial(_reward, summary) if kind == "reward" else summary.distance
    return Markup(against_compute(summary, looks, f"{kind}-curves", pick))


def _reward(summary: Summary, problem: Problem) -> str | None:
    return "reward" if summary.has(problem, "reward") else None
