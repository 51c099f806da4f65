"""Fine-tuned methods in a report: the fit is what is repeated, not the seed that samples it."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from reports.data.comparisons import all_pairs, fair_entries
from reports.data.entries import summarise, without_fit_seed
from reports.data.replicates import numbered
from reports.data.run import load_run
from reports.data.summary import Entry, Summary
from reports.html import write_page
from reports.tables.grid import estimate_cell
from reports.text.reward_hacking import flags
from tests.worlds.made_run import make_run
from tests.worlds.report_page import Page

SHIFTS = {1: [0.0], 3: [0.0, 0.2, -0.1]}
"""What fits differ by, of a run with one and of one with three."""


def fitted_run(folder: Path, fits: int) -> Path:
    """The invented digits, whose `mfm-ft` has its cells once for each of several fits."""
    make_run(folder, tasks=("digits",), rewards=("class-mixture",), troubles=False)
    cells, metrics = (pd.read_parquet(folder / f"{n}.parquet") for n in ("cells", "metrics"))
    own = cells["method"] == "mfm-ft"
    others = cells[~own], metrics[~metrics["cell"].isin(cells[own]["cell"])]
    parts = [others]
    for fit, shift in enumerate(SHIFTS[fits]):
        label = f"mfm-ft:fit_seed={fit}" if fit else "mfm-ft"
        again = cells[own].assign(method=label, fit=f"fit-{fit}", cell=cells["cell"] + f"-{fit}")
        values = metrics[metrics["cell"].isin(cells[own]["cell"])]
        parts.append(
            (again, values.assign(cell=values["cell"] + f"-{fit}", value=values["value"] + shift))
        )
    for name, frames in zip(("cells", "metrics"), zip(*parts, strict=True), strict=True):
        pd.concat(frames, ignore_index=True).to_parquet(folder / f"{name}.parquet")
    return folder


def summary_of(folder: Path) -> Summary:
    loaded = load_run(folder)
    return summarise(loaded.cells, loaded.metrics)


def tuned(summary: Summary) -> Entry:
    found = [e for e in summary.entries if e.name == "mfm-ft"]
    assert len(found) == 2, "one for each budget, however many fits"
    return found[-1]


def test_seeds_of_one_fit_are_no_interval_and_no_test(tmp_path: Path) -> None:
    folder = fitted_run(tmp_path / "one", 1)
    summary = summary_of(folder)
    entry = tuned(summary)
    value = entry.estimate("reward")
    assert (value.source, value.fits, entry.fit_label) == ("one fit", 1, "one fit")
    assert value.known and math.isnan(value.half)
    assert "one fit, 3 seeds: no interval" in estimate_cell(value, 2).tip
    pairs = all_pairs(fair_entries(summary.of(entry.problem, entry.budget), "reward"), "reward")
    own = [c for (a, b), c in pairs.items() if entry in (a, b)]
    assert own and all(math.isnan(c.adjusted) and not c.clear for c in own)
    assert any(c.clear for c in pairs.values())
    text = Page(write_page(folder).read_text(encoding="utf-8")).text
    assert "mfm-ft : its 3 sampling seeds share one fit" in text


def test_several_fit_seeds_are_one_method_with_their_spread(tmp_path: Path) -> None:
    folder = fitted_run(tmp_path / "three", 3)
    entry = tuned(summary_of(folder))
    value = entry.estimate("reward")
    assert (value.source, value.fits, entry.fit_label) == ("fits", 3, "3 fits")
    spread = pd.Series(SHIFTS[3]).std() / 3**0.5
    assert spread <= value.error < 1.3 * spread
    assert "3 seeds and 3 fits" in estimate_cell(value, 2).tip
    assert "share one fit" not in write_page(folder).read_text(encoding="utf-8")


def test_what_one_fit_did_to_its_samples_is_still_flagged(tmp_path: Path) -> None:
    """Governance asks about the samples at hand, whatever another fit would give."""
    folder = fitted_run(tmp_path / "hacked", 1)
    path = folder / "metrics.parquet"
    metrics = pd.read_parquet(path)
    cells = pd.read_parquet(folder / "cells.parquet")
    own = metrics["cell"].isin(cells[cells["method"] == "mfm-ft"]["cell"])
    judged = own & (metrics["metric"] == "judge")
    metrics.assign(value=metrics["value"] - 9.0 * judged).to_parquet(path)
    summary = summary_of(folder)
    found = flags(summary, summary.problems[0], ("judge",))
    assert {f.budget for f in found if (f.kind, f.method) == ("judge falls", "mfm-ft")}


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("mfm-ft:fit_seed=3", "mfm-ft"),
        ("mfm-ft:steps=4,fit_seed=12", "mfm-ft:steps=4"),
        ("mfm-ft:fit_seed=1,steps=4", "mfm-ft:steps=4"),
        ("mfm-ft:outfit_seed=1", "mfm-ft:outfit_seed=1"),
        ("dps", "dps"),
    ],
)
def test_a_label_without_its_fit(label: str, name: str) -> None:
    assert without_fit_seed(label) == name


def test_fits_are_numbered_within_their_condition() -> None:
    rows = [("0", "a"), ("0", "b"), ("1", "c"), ("0", "a"), ("1", "d"), ("1", "")]
    assert numbered(rows) == [0, 1, 0, 0, 1, -1]
