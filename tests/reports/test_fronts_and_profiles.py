"""What is worth its cost, and how often a row is near the law."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.data.front import fronts, undominated
from reports.data.marks import summary_of
from reports.data.profiles import reached, shares_left
from reports.data.run import load_run
from reports.data.summary import Summary
from reports.html import write_page
from tests.worlds.made_run import make_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", troubles=False)


def summary_in(folder: Path) -> Summary:
    return summary_of(load_run(folder))


# -- fronts ------------------------------------------------------------------------------------

POINTS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=8)


@given(POINTS, st.sampled_from(["higher", "lower"]))
def test_a_row_is_on_the_front_where_nothing_cheaper_or_as_dear_is_better(points, direction):
    costs, values = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    better = np.greater if direction == "higher" else np.less
    slow = [not any(c <= cost and better(v, value) for c, v in points) for cost, value in points]
    assert undominated(costs, values[None], direction)[0].tolist() == slow


def test_the_cheapest_row_and_the_best_are_on_every_front(folder: Path) -> None:
    summary = summary_in(folder)
    problem = next(p for p in summary.problems if p.task == "gmm-paper")
    found = fronts(summary, problem, "sliced-w2", "lower")
    assert {"paper-nfe", "model-nfe", "seconds"} <= set(found)
    for unit, rows in found.items():
        costs = [row.cost for row in rows]
        values = [row.entry.estimate("sliced-w2").mean for row in rows]
        assert costs == sorted(costs) and values == sorted(values, reverse=True), unit
        assert not any(row.entry.marks or row.entry.is_closed_form for row in rows)
    # 0.19 at both budgets is `mfm-gf`, far below all others of three seeds.
    last = found["paper-nfe"][-1]
    assert last.entry.name == "mfm-gf" and last.chance > 0.9


def test_a_tie_shares_the_front(folder: Path) -> None:
    """A second method with the same mean up to noise: each is on the front in part of the draws."""
    cells, metrics = (pd.read_parquet(folder / f"{n}.parquet") for n in ("cells", "metrics"))
    name = dict(zip(cells["cell"], cells["method"], strict=True))
    seed = dict(zip(cells["cell"], cells["seed"], strict=True))
    of = metrics["cell"].map(name)
    noise = np.array([-0.01, 0.012, -0.002])
    value = metrics["value"].where(~((of == "mfm-gf") & (metrics["metric"] == "sliced-w2")), 0.19)
    same = (of == "rollout") & (metrics["metric"] == "sliced-w2")
    value = value.where(~same, 0.19 + noise[metrics["cell"].map(seed)])
    metrics.assign(value=value).to_parquet(folder / "metrics.parquet")
    summary = summary_in(folder)
    problem = next(p for p in summary.problems if p.task == "gmm-paper")
    rows = fronts(summary, problem, "sliced-w2", "lower")["paper-nfe"]
    assert rows and all(0.2 < row.chance < 0.9 for row in rows if row.entry.name == "mfm-gf")


# -- profiles ----------------------------------------------------------------------------------


def test_a_profile_counts_cells_against_the_base_model(folder: Path) -> None:
    """sliced-w2 .19 of 2.10 on the mixture, frechet .20 of .52 on digits; the sharp reward has no
    distance, so six cells at a budget.
    """
    found = shares_left(summary_in(folder), "paper-nfe=100")
    assert found["mfm-gf"].shape == (2, 3)
    mixture, digits = found["mfm-gf"].mean(1)
    assert mixture == pytest.approx(0.19 / 2.10, rel=0.1)
    assert digits == pytest.approx(0.20 / 0.52, rel=0.1)
    shares = [one.value for one in reached(found["mfm-gf"], (0.05, 0.2, 0.5))]
    assert shares == [0.0, 0.5, 1.0]
    assert "prior" not in found and "exact" not in found


def test_a_cell_without_a_result_reaches_nothing(folder: Path) -> None:
    cells = pd.read_parquet(folder / "cells.parquet")
    lost = (cells["method"] == "mfm-gf") & (cells["seed"] == 1)
    cells.assign(status=cells["status"].where(~lost, "failed")).to_parquet(folder / "cells.parquet")
    found = shares_left(summary_in(folder), "paper-nfe=100")["mfm-gf"]
    assert found.shape == (2, 3) and np.isnan(found[:, 1]).all()
    assert reached(found, (1.0,))[0].value == pytest.approx(2 / 3)


def test_the_interval_of_a_profile_needs_five_seeds() -> None:
    """Ten seeds of a share of one half: the bootstrap's error is that of a proportion."""
    values = np.array([[0.1, 0.9] * 5])
    (found,) = reached(values, (0.5,))
    assert found.value == 0.5
    assert found.high - found.value == pytest.approx(2.262 * math.sqrt(0.25 / 9), rel=0.15)
    assert math.isnan(reached(values[:, :4], (0.5,))[0].high)


def test_the_page_has_both_with_their_text(folder: Path) -> None:
    text = write_page(folder).read_text(encoding="utf-8")
    assert '<section id="front">' in text and "How often is a row near the law?" in text
    for figure in ("fronts are in the table below", "the values are in the table below"):
        assert figure in text
    assert write_page(folder).read_text(encoding="utf-8") == text
