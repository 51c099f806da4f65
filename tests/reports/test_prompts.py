"""Intervals and differences of problems with several prompts: what one prompt has in common."""

import math

import numpy as np
import pandas as pd
import pytest

from reports.data.run import load_run
from reports.data.statistics import difference, over_prompts, over_seeds
from reports.data.summary import summarise
from reports.tables.grid import estimate_cell
from tests.worlds.made_run import make_run

RNG = np.random.default_rng


def test_near_copies_of_prompts_have_the_error_of_prompts():
    """10 prompts of 4 near-copies, one seed: the cells' own errors are those of near-copies."""
    rng = RNG(0)
    levels = rng.standard_normal(10)
    samples = levels[:, None] + 0.01 * rng.standard_normal((10, 4))
    means, errors = samples.mean(1), samples.std(1, ddof=1) / 2
    one = over_seeds({0: float(means.mean())}, {0: math.hypot(*errors) / 10})
    found = over_prompts(one, dict(zip("abcdefghij", means, strict=True)))
    assert found.source == "prompts" and found.freedom == 9
    assert (
        found.error == pytest.approx(means.std(ddof=1) / 10**0.5) and found.error > 50 * one.error
    )
    assert "10 prompts" in estimate_cell(found, 2).tip


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("prompts", [10, 40])
def test_intervals_cover_the_mean_over_prompts(prompts, seeds):
    """Nominal 95 %, 1,000 repetitions, 4 pictures each: at least 93 %, and not all."""
    rng, hits = RNG(prompts + seeds), {"prompts": 0, "seeds": 0}
    for _ in range(1000):
        cells = rng.standard_normal(prompts)[:, None] + 0.1 * rng.standard_normal((prompts, seeds))
        plain = over_seeds(dict(enumerate(cells.mean(0))), {0: 0.1 / prompts**0.5})
        wide = over_prompts(plain, {str(k): v for k, v in enumerate(cells.mean(1))})
        for name, found in (("prompts", wide), ("seeds", plain)):
            hits[name] += found.low <= 0 <= found.high
    assert 930 <= hits["prompts"] < 990 and hits["seeds"] < 700, hits


def test_the_wider_interval_is_given():
    seeds = over_seeds({0: 0.0, 1: 10.0, 2: 20.0}, {})
    near = over_prompts(seeds, {"a": 9.9, "b": 10.0, "c": 10.1})
    assert near.source == "seeds" and near.error == seeds.error and len(near.by_prompt) == 3
    far = over_prompts(seeds, {"a": -90.0, "b": 10.0, "c": 110.0})
    assert far.source == "prompts" and far.mean == seeds.mean
    assert over_prompts(seeds, {"a": 1.0}) == seeds
    assert over_prompts(seeds, {"a": 1.0, "b": math.inf}) == seeds


def test_a_difference_is_paired_by_prompts_too():
    """What both methods find hard cancels; what one gains on one prompt alone does not."""
    levels = {"a": -5.0, "b": 0.0, "c": 7.0, "d": 1.0}
    base = over_prompts(over_seeds({0: 1.0}, {}), levels)
    better = over_prompts(over_seeds({0: 2.0}, {}), {k: v + 1 for k, v in levels.items()})
    gap = difference(better, base)
    assert (gap.mean, gap.pairs) == (1.0, 4) and gap.half == pytest.approx(0, abs=1e-12)
    lucky = over_prompts(over_seeds({0: 1.75, 1: 1.75}, {}), levels | {"d": 4.0})
    base = over_prompts(over_seeds({0: 1.0, 1: 1.0}, {}), levels)
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
    assert sources(tmp_path / "labels", ["0", "1", "2"]) == {"seeds"}
    assert sources(tmp_path / "none", [""]) == {"seeds"}
