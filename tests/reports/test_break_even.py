"""Work done once: where it pays off, and the switch that counts it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.data.marks import summary_of
from reports.data.run import load_run
from reports.data.summary import Entry, ProblemKey
from reports.figures.palette import looks
from reports.html import write_page
from reports.tables.compute import FIT, break_even, compute_grid
from tests.worlds import report_page
from tests.worlds.made_run import make_run
from tests.worlds.report_page import Page

# Fixtures: pytest looks for them in this module.
run, source = report_page.run, report_page.source
page = report_page.page


def test_work_done_once_can_be_amortised_at_every_table_that_shows_compute(page: Page) -> None:
    modes = [i["value"] for i in page.inputs if "checked" in i]
    assert modes == ["marginal", "marginal"], "one switch above each kind of table, off by default"
    assert [i["name"] for i in page.inputs] == 2 * ["mode", "mode", "n", "map"]


def test_cells_carry_what_the_switch_adds(source: str) -> None:
    tables = re.findall(r'<table class="(headline|compute)".*?</table>', source, re.DOTALL)
    assert tables == 3 * ["headline"] + 3 * ["compute"]
    for kind in ("headline", "compute"):
        found = re.findall(rf'<table class="{kind}".*?</table>', source, re.DOTALL)
        assert all('data-sample="100.0" data-fit="0.0" data-map="2000000.0"' in t for t in found)
    assert 'data-sample="500.0" data-fit="250000.0" data-map="0.0"' in source


def test_pairs_that_break_even_are_shown_in_both_ways(source: str) -> None:
    texts = [
        [
            re.sub(r"<[^>]+>", "", cell).strip()
            for cell in re.findall("<td(?! colspan).*?</td>", t, re.DOTALL)
        ]
        for t in re.findall(r'<table class="breaks".*?</table>', source, re.DOTALL)
    ]
    mixture, digits_fit, digits_map, *_ = texts
    # 2,000,000 once, and 100 instead of 500 per image: cheaper above 5,000 images.
    assert mixture[0] == "mfm-g:draws=4", "best-of-n-fewstep maximises: it competes with nobody"
    assert {"5,001"} <= set(mixture)
    # 250,000 once: cheaper above 625 images.
    assert digits_fit[0] == "mfm-ft"
    assert set(digits_fit[1:]) == {"626"}
    assert "5,001" in digits_map
    # Against mfm-ft at 500: (2,000,000 - 250,000) / 400 = 4,375.
    assert "4,376" in digits_map


@pytest.mark.parametrize(("fit", "trained"), [(True, True), (True, False), (False, True)])
def test_the_switch_is_there_whenever_it_would_change_something(
    tmp_path: Path, fit: bool, trained: bool
) -> None:
    source = with_work_done_once(tmp_path / "some", fit, trained)
    assert source.count("<form") == 2
    assert source.count('type="checkbox"') == 2 * trained
    assert source.count("images, fit included") == 2 * fit
    assert ("Counting the fit alone" in source, "Counting the training" in source) == (fit, trained)


def test_a_run_in_which_nothing_is_done_once_has_no_switch(tmp_path: Path) -> None:
    source = with_work_done_once(tmp_path / "none", False, False)
    assert "<form" not in source
    assert "pays off" not in source


def with_work_done_once(folder: Path, fit: bool, trained: bool) -> str:
    make_run(folder, rewards=("template:index=3",))
    cells = pd.read_parquet(folder / "cells.parquet")
    cells = cells if fit else cells[cells["method"] != "mfm-ft"]
    cells = cells if trained else cells.drop(columns="map_paper_nfe")
    cells.to_parquet(folder / "cells.parquet")
    return write_page(folder).read_text(encoding="utf-8")


def test_at_one_budget_nothing_breaks_even_and_the_report_says_so(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "one", rewards=("inverse",))
    cells = pd.read_parquet(folder / "cells.parquet")
    cells[cells["budget"] == "paper-nfe=500"].to_parquet(folder / "cells.parquet")
    source = write_page(folder).read_text(encoding="utf-8")
    assert 'class="breaks"' not in source
    # Two methods with a map against prior and rollout; the others maximise.
    assert "Of the 4 pairs that differ up front, 4 never cross (4 of them at one budget)" in source


def test_nothing_pays_off_against_clearly_better_samples(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "worse", tasks=("digits",), rewards=("class-mixture",))
    cells, metrics = (pd.read_parquet(folder / f"{n}.parquet") for n in ("cells", "metrics"))
    tuned = metrics["cell"].isin(cells[cells["method"] == "mfm-ft"]["cell"])
    far = tuned & (metrics["metric"] == "frechet")
    metrics["value"] = metrics["value"].where(~far, metrics["value"] + 0.2)
    metrics.to_parquet(folder / "metrics.parquet")
    source = write_page(folder).read_text(encoding="utf-8")
    assert (
        "more cross, but to samples that are clearly worse in frechet, and are left out" in source
    )


def entry_of(sample: float, fit: float = 0.0, trained: float = 0.0) -> Entry:
    cells = {"status": "ok", "paper_nfe": sample, "fit_paper_nfe": fit, "map_paper_nfe": trained}
    return Entry(ProblemKey("t", "r", 1.0), "m", "m", "", pd.DataFrame([cells]), {})


def test_break_even_by_hand() -> None:
    mapped, tuned, free = entry_of(100, 0, 2e6), entry_of(100, 25e4, 5e5), entry_of(500)
    assert break_even(mapped, free) == 0
    assert break_even(mapped, free, with_map=True) == 2e6 / 400 == 5000
    assert break_even(tuned, free) == 625
    assert break_even(tuned, free, with_map=True) == 1875
    # At equal costs per image, what is cheaper up front is cheaper always, the other never.
    assert break_even(mapped, tuned, with_map=True) == np.inf
    assert break_even(tuned, mapped, with_map=True) == 0
    assert break_even(free, free) == np.inf


def test_what_is_only_cheaper_at_first_never_breaks_even() -> None:
    frugal, tuned = entry_of(500), entry_of(100, 25e4)
    assert break_even(frugal, tuned) == np.inf, "cheaper up to 625 images, not from there on"


def test_what_is_unknown_has_no_break_even() -> None:
    assert np.isnan(break_even(entry_of(np.nan), entry_of(500)))


@given(*[st.integers(1, 1000)] * 2, *[st.integers(0, 10**6)] * 4)
def test_totals_cross_where_they_break_even(a, b, fit_a, fit_b, map_a, map_b) -> None:
    one, other = entry_of(a, fit_a, map_a), entry_of(b, fit_b, map_b)
    found = break_even(one, other, with_map=True)
    if np.isinf(found):
        assert a >= b
        return
    first = int(np.floor(found)) + 1
    assert fit_a + map_a + first * a < fit_b + map_b + first * b
    if first > 1:
        assert fit_a + map_a + (first - 1) * a >= fit_b + map_b + (first - 1) * b


def test_the_ledger_says_what_samples_and_fits_were_made_of(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "ledger", rewards=("class-mixture",), troubles=False)
    cells = pd.read_parquet(folder / "cells.parquet")
    own = cells["method"] == "mfm-ft"
    work = {"fit_flow_forward": 2e5, "fit_reward_backward": 5e4, "fit_flops_total": 3.2e9}
    work |= {"predicted_fit_paper_nfe": 250_000.0, "fit_seconds_total": 90.0}
    cells.assign(**{name: own * value for name, value in work.items()}).to_parquet(
        folder / "cells.parquet"
    )
    summary = summary_of(load_run(folder))
    (problem,) = summary.problems
    table = compute_grid(summary, problem, looks(summary.colours))
    heads = [(column.over, column.title) for column in table.columns]
    assert ("flow rows", "fwd") in heads and ("reward rows", "fwd") in heads
    fit = [k for k, column in enumerate(table.columns) if column.over == FIT]
    assert [table.columns[k].title for k in fit] == [
        *("flow fwd", "reward bwd", "predicted fit", "fit FLOPs", "fit time")
    ]
    assert all(table.columns[k].folded for k in fit)
    lines = {line.cells[0].text: line.cells for line in table.groups[0].lines}
    assert [lines["mfm-ft"][k].text for k in fit] == [
        *("200,000", "50,000", "250,000", "3.2 × 10⁹", "90\u2009s")
    ]
    assert not lines["mfm-ft"][fit[2]].warn
    assert {lines["dps"][k].text for k in fit} == {"·", "–"}
    # What was predicted of a fit and what was measured part: marked.
    cells["predicted_fit_paper_nfe"] = own * 200_000.0
    cells.to_parquet(folder / "cells.parquet")
    summary = summary_of(load_run(folder))
    table = compute_grid(summary, problem, looks(summary.colours))
    lines = {line.cells[0].text: line.cells for line in table.groups[0].lines}
    place = [column.title for column in table.columns].index("predicted fit")
    assert lines["mfm-ft"][place].warn and not lines["dps"][place].warn
