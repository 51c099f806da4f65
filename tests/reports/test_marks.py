"""Rows that collapsed or maximise: how they are found, and that none of them leads anything."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from safetensors.numpy import save_file

from reports.data.comparisons import deciding, winners
from reports.data.laws import law_reward, law_spread
from reports.data.marks import summary_of
from reports.data.run import load_run
from reports.data.summary import Summary
from reports.html import write_page
from reports.tables.terminal import console
from reports.text.findings import findings
from reports.text.reward_hacking import flags
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
    value = metrics["value"].where(~of_method(folder, method, "diversity"), 0.3)  # of 3.1
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
    """12 base samples of this run, counted once though there are two budgets (they have the same
    noise): too few, and the page goes by the distance alone.
    """
    summary = summary_in(folder)
    law = summary.laws[summary.problems[0]]
    assert law.drawn == 12 and not law.known
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


def narrow_tilt(folder: Path, strength: float, rows: dict[str, float], count: int = 1500) -> None:
    """A normal base law in the plane under r = -|x|^2 / 2: the law's deviation is that of the base
    over (1 + strength)^(1/2), and no distance says so.  rows: method -> diversity over the base's.
    """
    without_distances(folder)
    cells = pd.read_parquet(folder / "cells.parquet").assign(strength=strength)
    cells.to_parquet(folder / "cells.parquet")
    own = cells[(cells["method"] == "prior") & (cells["budget_amount"] == 500)]["cell"]
    scores, rng = [], np.random.default_rng(1)
    for cell in own:
        x = rng.standard_normal((count, 2))
        path = folder / "cells" / cell / "attempts" / "1" / "samples.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"x": x.astype(np.float32)}, path)
        rewards = -(x**2).sum(1) / 2
        scores.append(pd.DataFrame({"cell": cell, "index": range(count), "reward": rewards}))
    pd.concat(scores).to_parquet(folder / "samples.parquet")
    value = pd.read_parquet(folder / "metrics.parquet")["value"]
    for method in cells["method"].unique():
        share = (
            np.sqrt(np.pi) * rows.get(method, 1.0) * (1 + 1e-3 * rng.standard_normal(len(value)))
        )
        value = value.where(~of_method(folder, method, "diversity"), share)
    changed(folder, "metrics", value=value)


def test_the_law_is_as_wide_as_its_reweighted_samples(folder: Path) -> None:
    """Two normal draws in the plane are sqrt(pi) deviations apart."""
    narrow_tilt(folder, 15.0, {})
    run = load_run(folder)
    summary = summary_of(run)
    spread = law_spread(summary, summary.problems[0], run)
    assert spread is not None and spread.known
    assert spread.value.mean == pytest.approx(np.sqrt(np.pi) / 4, abs=3 * spread.value.error)
    assert spread.value.error < 0.05 * spread.value.mean
    # E[w]^2 / E[w^2] = (1 + 2 s) / (1 + s)^2 of what is left of 4,500.
    assert spread.effective == pytest.approx(1500 * 31 / 256, rel=0.25)


def test_a_law_that_is_narrow_itself_has_collapsed_nobody(folder: Path) -> None:
    """A fourth of the base's diversity is what was asked for; less than half of that is not."""
    narrow_tilt(folder, 15.0, {"mfm-gf": 0.25, "dps": 0.2, "best-of-n": 0.1})
    found = marks(summary_in(folder))
    assert "collapsed" in found["best-of-n"]
    assert not any("collapsed" in found.get(m, ()) for m in ("mfm-gf", "dps", "mfm-g", "rollout"))
    summary = summary_in(folder)
    said = [f for f in flags(summary, summary.problems[0], ()) if f.kind == "diversity"]
    assert {f.method for f in said} == {"best-of-n", "dps"}, "clearly below, though one by a fifth"
    assert all("of the law by reweighted base samples" in f.text for f in said)


def test_where_nothing_tells_the_law_only_one_repeated_sample_has_collapsed(folder: Path) -> None:
    """4,500 samples, but a tilt that leaves a handful of them."""
    narrow_tilt(folder, 5000.0, {"mfm-gf": 0.3, "dps": 0.2, "best-of-n": 0.1})
    summary = summary_in(folder)
    assert not any(spread.known for spread in summary.spreads.values())
    assert {name for name, kinds in marks(summary).items() if "collapsed" in kinds} == {"best-of-n"}
    repeated = next(m for e in summary.entries if e.name == "best-of-n" for m in e.marks)
    assert repeated.text == "diversity 0.177, the base model (`prior`) has 1.77"


def test_samples_that_are_not_what_was_measured_say_nothing(folder: Path) -> None:
    """The mean distance of the stored ones must be the recorded one."""
    narrow_tilt(folder, 15.0, {"prior": 1.2})  # beyond what may be left out of the stored ones
    assert not summary_in(folder).spreads


def test_a_number_of_modes_is_not_held_against_the_base_model(folder: Path) -> None:
    """A sharp tilt leaves 2 % of the modes and half of the distance."""
    narrow_tilt(folder, 5000.0, {})
    metrics = pd.read_parquet(folder / "metrics.parquet")
    modes = metrics[metrics["metric"] == "diversity"].assign(metric="modes", rank=150)
    modes["value"] = np.where(of_method(folder, "prior", "diversity")[modes.index], 180.0, 4.0)
    pd.concat([metrics, modes]).to_parquet(folder / "metrics.parquet")
    assert "collapsed" not in set().union(*marks(summary_in(folder)).values())


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
