"""Intervals and differences of problems with several prompts: what one prompt has in common."""

import math

import numpy as np
import pandas as pd
import pytest

from reports.data.entries import summarise
from reports.data.replicates import Row
from reports.data.run import load_run
from reports.data.statistics import difference, mean_of
from reports.tables.grid import estimate_cell
from tests.worlds.made_run import make_run

RNG = np.random.default_rng


def rows(values, own=math.nan):
    """values (prompts, seeds) as cells of sentences."""
    found = np.asarray(values, dtype=float)
    return [Row(f"p {c}", s, x, own) for (c, s), x in np.ndenumerate(found)]


def test_near_copies_of_prompts_have_the_error_of_prompts():
    """10 prompts of 4 near-copies, one seed: the cells' own errors are those of near-copies."""
    rng = RNG(0)
    levels = rng.standard_normal(10)
    samples = levels[:, None] + 0.01 * rng.standard_normal((10, 4))
    means, error = samples.mean(1), 0.005
    found = mean_of(rows(means[:, None], error), sentences=True)
    assert found.source == "prompts" and found.freedom == 9
    assert found.error == pytest.approx(means.std(ddof=1) / 10**0.5)
    assert mean_of(rows(means[:, None], error)).error == pytest.approx(error / 10**0.5)
    assert "1 seed and 10 prompts" in estimate_cell(found, 2).tip


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("prompts", [10, 40])
def test_intervals_cover_the_mean_over_prompts(prompts, seeds):
    """Nominal 95 %, 1,000 repetitions, 4 pictures each: 93 to 97 %; over seeds alone below 70 %."""
    rng, hits = RNG(prompts + seeds), {True: 0, False: 0}
    for _ in range(1000):
        cells = rng.standard_normal(prompts)[:, None] + 0.1 * rng.standard_normal((prompts, seeds))
        for sentences in hits:
            found = mean_of(rows(cells, 0.1), sentences)
            hits[sentences] += found.low <= 0 <= found.high
    assert 930 <= hits[True] <= 970 and hits[False] < 700, hits


def test_what_prompts_and_seeds_add_is_added():
    """(x_cs) of prompts a_c and seeds b_s without a rest: both variances, each once."""
    a, b = np.array([-3.0, 0.0, 1.0, 2.0]), np.array([-1.0, 0.0, 1.0])
    found = mean_of(rows(a[:, None] + b), sentences=True)
    assert found.error**2 == pytest.approx(a.var(ddof=1) / 4 + b.var(ddof=1) / 3)
    assert mean_of(rows(a[:, None] + 0 * b), sentences=True).error ** 2 == pytest.approx(
        a.var(ddof=1) / 4
    )
    assert mean_of(rows(a[:, None] + b)).error ** 2 == pytest.approx(b.var(ddof=1) / 3)


def test_a_difference_is_paired_by_prompts_too():
    """What both methods find hard cancels; what one gains on one prompt alone does not."""
    levels = np.array([[-5.0], [0.0], [7.0], [1.0]])
    base = mean_of(rows(levels, 0.1), sentences=True)
    better = mean_of(rows(levels + np.array([[1.0], [1.1], [0.9], [1.0]]), 0.1), sentences=True)
    gap = difference(better, base)
    assert gap.mean == pytest.approx(1.0) and gap.pairs == 4
    assert gap.half == pytest.approx(3.182446 * np.std([1, 1.1, 0.9, 1], ddof=1) / 2, rel=1e-5)
    lucky = mean_of(rows(levels + np.array([[0.0], [0.0], [0.0], [3.0]]), 0.1), sentences=True)
    gap = difference(lucky, base)
    assert gap.mean == 0.75 and gap.half > 2 and gap.p > 0.3


def sources(folder, conditions):
    """Where intervals come from in a made run that has every cell once per condition."""
    make_run(folder, tasks=("gmm-paper",), troubles=False)
    cells, metrics = (pd.read_parquet(folder / f"{name}.parquet") for name in ("cells", "metrics"))
    under = [
        (
            cells.assign(cell=cells["cell"] + f"-{k}", condition=condition),
            metrics.assign(cell=metrics["cell"] + f"-{k}", value=metrics["value"] + 10.0 * k),
        )
        for k, condition in enumerate(conditions)
    ]
    for name, parts in zip(("cells", "metrics"), zip(*under, strict=True), strict=True):
        pd.concat(parts).to_parquet(folder / f"{name}.parquet")
    read = load_run(folder)
    summary = summarise(read.cells, read.metrics)
    return {e.estimate("reward").source for e in summary.entries}


def test_the_report_takes_sentences_as_drawn_and_labels_as_given(tmp_path):
    said = ["a red cat", "two dogs", "a green tree"]
    assert sources(tmp_path / "prompts", said) == {"prompts"}
    assert sources(tmp_path / "labels", ["0", "1", "2"]) <= {"seeds", "cell"}
    assert sources(tmp_path / "none", [""]) <= {"seeds", "cell"}
