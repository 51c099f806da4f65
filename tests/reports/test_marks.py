"""Rows that collapsed or maximise: how they are found, and that none of them leads anything."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from reports.data.comparisons import deciding, winners
from reports.data.laws import law_reward
from reports.data.marks import summary_of
from reports.data.run import load_run
from reports.data.summary import Summary
from reports.html import write_page
from reports.tables.terminal import console
from reports.text.findings import findings
from tests.worlds.made_run import make_run, without_distances


def changed(folder: Path, table: str, **columns: object) -> None:
    path = folder / f"{table}.parquet"
    pd.read_parquet(path).assign(**columns).to_parquet(path)


def of_method(folder: Path, method: str, metric: str) -> pd.Series:
    cells, metrics = (pd.read_parquet(folder / f"{n}.parquet") for n in ("cells", "metrics"))
    own = cells[cells["method"] == method]["cell"]
    return metrics["cell"].isin(own) & (metrics["metric"] == metric)


def summary_in(folder: Path) -> Summary:
    return summary_of(load_run(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = tmp_path / "run"
    return make_run(where, tasks=("digits",), rewards=("class-mixture",), troubles=False)


def marks(summary: Summary) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for entry in summary.entries:
        found.setdefault(entry.name, set()).update(mark.kind for mark in entry.marks)
    return {name: kinds for name, kinds in found.items() if kinds}


def collapse(folder: Path, method: str) -> None:
    """One repeated picture with the best reward there is."""
    metrics = pd.read_parquet(folder / "metrics.parquet")
    value = metrics["value"].where(~of_method(folder, method, "diversity"), 0.3)
    value = value.where(~of_method(folder, method, "reward"), 5.0)
    changed(folder, "metrics", value=value)


# -- the law's own reward ----------------------------------------------------------------------


def test_reweighted_base_samples_have_the_reward_of_the_tilted_law(folder: Path) -> None:
    """A normal reward under the base law: the tilt moves its mean by strength, no deviation."""
    cells = pd.read_parquet(folder / "cells.parquet")
    prior = cells[cells["method"] == "prior"]["cell"].iloc[0]
    rewards = np.random.default_rng(0).standard_normal(20_000)
    samples = pd.DataFrame({"cell": prior, "index": range(20_000), "reward": rewards})
    samples.to_parquet(folder / "samples.parquet")
    run = load_run(folder)
    summary = summary_of(run)
    law = law_reward(summary, summary.problems[0], run.samples)
    assert law is not None and law.known and not law.exact
    assert law.mean == pytest.approx(1.0, abs=0.05) and law.deviation == pytest.approx(1, abs=0.05)
    # 1 / E[w^2] of lognormal weights: n e^-1.
    assert law.effective == pytest.approx(20_000 / np.e, rel=0.15)
    assert law.excess(1.5) == pytest.approx(0.5, abs=0.05)


def test_a_law_of_a_few_samples_marks_nobody(folder: Path) -> None:
    """12 base samples of this run: too few, and the page goes by the distance alone."""
    summary = summary_in(folder)
    law = summary.laws[summary.problems[0]]
    assert law.drawn == 12 * 2 and not law.known
    assert marks(summary) == {"dps": {"maximises"}}, "further than the base model, reward above"


# -- marks -------------------------------------------------------------------------------------


def test_a_tilt_that_lowers_diversity_by_itself_is_no_collapse(folder: Path) -> None:
    """Everybody but the base model has a third: so the law does, as its nearest row shows."""
    metrics = pd.read_parquet(folder / "metrics.parquet")
    low = (metrics["metric"] == "diversity") & ~of_method(folder, "prior", "diversity")
    changed(folder, "metrics", value=metrics["value"].where(~low, metrics["value"] / 3))
    assert "collapsed" not in set().union(*marks(summary_in(folder)).values())
    text = write_page(folder).read_text(encoding="utf-8")
    assert "samples repeat themselves" not in text


@pytest.mark.parametrize("distances", [True, False])
def test_one_repeated_picture_is_neither_bold_nor_in_the_lead(
    folder: Path, distances: bool
) -> None:
    collapse(folder, "mfm-g:draws=4")
    if not distances:
        without_distances(folder)
    summary = summary_in(folder)
    problem = summary.problems[0]
    assert "collapsed" in marks(summary)["mfm-g"]
    bold = [e.name for m in summary.metrics(problem) for e in winners(summary, problem, m)]
    assert "mfm-g" not in bold
    said = findings(summary, problem)
    leads = [s for s in said if re.search("^At .* the (lowest|highest) .*is that of", s)]
    assert leads and not any("is that of `mfm-g:" in s for s in leads)
    highest = [s for s in said if s.startswith("The highest reward there")]
    marked = "`mfm-g:draws=4`, which is marked: collapsed"
    assert len(highest) == 2 and all(marked in sentence for sentence in highest)
    text = write_page(folder).read_text(encoding="utf-8")
    assert '<span class="tag collapsed">collapsed</span>' in text
    assert "rows with such a mark are never bold" in text


def test_bold_goes_to_the_distance_where_there_is_one(folder: Path) -> None:
    summary = summary_in(folder)
    problem = summary.problems[0]
    assert deciding(summary, problem) == ["frechet", "mmd2-features"]
    assert winners(summary, problem, "frechet") and not winners(summary, problem, "reward")
    without_distances(folder)
    summary = summary_in(folder)
    assert deciding(summary, problem) == ["reward", "judge"]
    assert winners(summary, problem, "reward")


def test_the_terminal_flags_marked_rows(folder: Path) -> None:
    collapse(folder, "mfm-g:draws=4")
    screen = Console(width=100, record=True, force_terminal=False)
    for table in console(folder):
        screen.print(table)
    text = screen.export_text()
    assert len(re.findall(r"mfm-g:draws=4  coll\b", text)) == 2
    assert text.count("dps  max") == 2
    assert "never a row with a flag" in text
