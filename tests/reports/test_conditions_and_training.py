"""What hides in a mean over conditions, and whether fits had settled."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.record import layout
from bench.record.attempt import Attempt
from bench.record.seals import checksum
from reports.chapters.conditions import budgets_within
from reports.data.conditions import (
    DIVIDING,
    PARTS,
    ConditionMap,
    by_condition,
    condition_map,
    mapped_metrics,
)
from reports.data.marks import summary_of
from reports.data.run import load_run
from reports.data.summary import Summary
from reports.data.training import MOST_FITS, losses, thinned
from reports.export import export
from reports.figures.palette import MethodLook
from reports.html import write_page
from reports.tables.conditions import SHADES, shades
from reports.tables.training import training_grid
from tests.worlds.made_run import make_run
from tests.worlds.report_page import Page

LOOK = MethodLook("#112233", "o")
RISE = 0.01
"""By which the reward under a condition lies above that under the one before."""


def with_conditions(folder: Path, count: int) -> Path:
    """Every cell of a run once per condition; condition k has k times `RISE` more reward.

    Under the condition in the middle, `dps` alone is far below what it has elsewhere.
    """
    cells, metrics = (pd.read_parquet(folder / f"{n}.parquet") for n in ("cells", "metrics"))
    names = [f"a picture of <b>{k}</b> things" for k in range(count)]
    many = [
        cells.assign(condition=name, cell=cells["cell"] + f"{k:03x}")
        for k, name in enumerate(names)
    ]
    values = [
        metrics.assign(
            cell=metrics["cell"] + f"{k:03x}",
            value=metrics["value"] + k * RISE * (metrics["metric"] == "reward"),
        )
        for k in range(count)
    ]
    whole, measured = pd.concat(many), pd.concat(values)
    fallen = set(whole[(whole["method"] == "dps") & (whole["condition"] == names[count // 2])].cell)
    low = measured["cell"].isin(fallen) & (measured["metric"] == "reward")
    measured["value"] = measured["value"] - 50.0 * low
    whole.to_parquet(folder / "cells.parquet")
    measured.to_parquet(folder / "metrics.parquet")
    return folder


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", tasks=("digits",), rewards=("class-mixture",), troubles=False)


def summary_in(folder: Path) -> Summary:
    return summary_of(load_run(folder))


def reward_map(summary: Summary) -> ConditionMap:
    found = condition_map(summary, summary.problems[0], "reward", "paper-nfe=500")
    assert found is not None
    return found


# -- conditions --------------------------------------------------------------------------------


def test_a_run_with_one_condition_has_no_map(digits: Path) -> None:
    summary = summary_in(digits)
    assert mapped_metrics(summary, summary.problems[0]) == []
    assert 'id="conditions"' not in write_page(digits).read_text(encoding="utf-8")


def test_the_mean_over_the_columns_is_the_mean_of_every_other_table(digits: Path) -> None:
    summary = summary_in(with_conditions(digits, 5))
    found = reward_map(summary)
    assert found.metric == "reward" and not found.many
    assert mapped_metrics(summary, summary.problems[0]) == ["frechet", "reward", "judge"]
    for row, entry in enumerate(found.entries):
        own = found.values[row]
        assert own.mean() == pytest.approx(entry.estimate("reward").mean)
        assert own[0] == pytest.approx(by_condition(entry, "reward")[found.conditions[0]])
        if entry.name != "dps":
            assert np.diff(own) == pytest.approx([RISE] * 4)


def test_hundreds_of_conditions_are_put_together_and_none_is_lost(digits: Path) -> None:
    found = reward_map(summary_in(with_conditions(digits, 57)))
    columns = found.columns()
    assert len(columns) == PARTS + DIVIDING
    parts = [places for _, places in columns[:PARTS]]
    assert sorted(k for part in parts for k in part) == list(range(57))
    assert {len(part) for part in parts} == {7, 8}
    # The hardest is where one method falls by far; then the reward rises with the number.
    assert parts[0][:3] == [28, 0, 1]
    assert columns[PARTS] == ("", [28]), "the condition that divides the methods comes first"


def test_a_condition_without_a_result_leaves_no_mean_of_the_others() -> None:
    values = np.array([[1.0, math.nan, 3.0]])
    found = ConditionMap("reward", "higher", (), ("a", "b", "c"), values)
    assert math.isnan(found.mean(0, [0, 1])) and found.mean(0, [0, 2]) == 2.0


@pytest.mark.parametrize(("direction", "best"), [("higher", 99), ("lower", 0)])
def test_the_darkest_shade_is_the_best_and_one_odd_value_does_not_take_the_scale(
    direction: str, best: int
) -> None:
    values = np.arange(100.0)[None]
    shade = shades(values, direction)
    assert shade[0, best] == SHADES and shade[0, 99 - best] == 0
    odd = values.copy()
    odd[0, 50] = 1e6
    assert np.abs(shades(odd, direction) - shade)[0, :50].max() <= 1
    assert shades(np.full((1, 3), math.nan), direction).tolist() == [[0, 0, 0]]


def test_a_page_holds_as_many_budgets_as_fit(digits: Path) -> None:
    found = reward_map(summary_in(with_conditions(digits, 5)))
    size = len(found.entries) * 5
    levels = {budget: [found, found] for budget in ("a", "b", "c")}
    assert budgets_within([levels, levels], 4 * 3 * size) == 3
    assert budgets_within([levels, levels], 4 * 3 * size - 1) == 2
    assert budgets_within([levels], 1) == 1
    assert budgets_within([], 1) == 1


def test_the_page_shows_the_map_and_the_export_has_every_condition(
    digits: Path, tmp_path: Path
) -> None:
    folder = with_conditions(digits, 40)
    text = write_page(folder).read_text(encoding="utf-8")
    (section,) = re.findall(r'<section id="conditions">(.*?)</section>', text, re.DOTALL)
    assert "40 conditions are put together in 8 parts" in section
    assert f' h{SHADES}"' in section or f'"h{SHADES}"' in section
    assert "<b>3</b>" not in section and "&lt;b&gt;20&lt;/b&gt;" in section
    assert write_page(folder).read_text(encoding="utf-8") == text
    export(folder, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "conditions.csv")
    assert table["condition"].nunique() == 40
    own = table[(table["metric"] == "reward") & (table["method"] == "prior")]
    assert own["seeds"].tolist() == [3] * 80


# -- training ----------------------------------------------------------------------------------


def fitted(folder: Path, fits: int = 2, steps: int = 40) -> Path:
    """`mfm-ft` from so many fits, whose losses fall as 1 / step, the k-th k + 1 times as high."""
    cells = pd.read_parquet(folder / "cells.parquet")
    own = cells["method"] == "mfm-ft"
    names = [f"f{k:02x}" for k in range(fits)]
    cells.loc[own, "fit"] = [names[k % fits] for k in range(int(own.sum()))]
    cells["fit"] = cells["fit"].fillna("")
    cells.to_parquet(folder / "cells.parquet")
    for k, name in enumerate(names):
        step = np.arange(1, steps + 1)
        log(folder, name, {"step": step, "match": (k + 1) / step, "gap": [math.nan] * steps})
    return folder


def log(folder: Path, fit: str, rows: Mapping[str, Any]) -> Path:
    """A fit that ended with this curve, whose file it returns."""
    place = folder / layout.attempt(fit, 1, layout.CURVE)
    place.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(place)
    ended = Attempt(fit, "ok", files={layout.CURVE: checksum(place.read_bytes())})
    (place.parent / layout.RESULT).write_bytes(ended.result())
    return place


def test_a_loss_has_a_curve_per_fit_and_their_number(digits: Path) -> None:
    (loss,) = losses(load_run(digits), summary_in(fitted(digits)))
    assert (loss.method, loss.name, loss.fits, loss.steps) == ("mfm-ft", "match", 2, 40)
    first = np.mean(1 / np.arange(1, 5))
    assert loss.ends(last=False) == pytest.approx([first, 2 * first])
    (line,) = training_grid([loss], {"mfm-ft": LOOK}).groups[0].lines
    assert line.cells[2].text == "2" and " to " in line.cells[5].minor


def test_of_many_fits_the_first_are_read_and_the_table_says_so(digits: Path) -> None:
    cells = pd.read_parquet(fitted(digits, fits=1) / "cells.parquet")
    own = cells["method"] == "mfm-ft"
    more = [cells.assign(fit=cells["fit"].where(~own, f"e{k:02x}")) for k in range(MOST_FITS + 4)]
    pd.concat(more).to_parquet(digits / "cells.parquet")
    for k in range(MOST_FITS + 4):
        log(digits, f"e{k:02x}", {"step": [1, 2], "match": [2.0, 1.0]})
    (loss,) = losses(load_run(digits), summary_in(digits))
    assert len(loss.curves) == MOST_FITS and loss.fits == MOST_FITS + 4
    table = training_grid([loss], {"mfm-ft": LOOK})
    assert table.groups[0].lines[0].cells[2].text == f"{MOST_FITS} of {MOST_FITS + 4}"
    assert any(f"the first {MOST_FITS} are shown" in note for note in table.said)


def test_a_step_that_was_logged_twice_counts_once(digits: Path) -> None:
    fitted(digits, fits=1)
    log(digits, "f00", {"step": [1, 2, 2, 3], "match": [9.0, 8.0, 4.0, 3.0]})
    (loss,) = losses(load_run(digits), summary_in(digits))
    assert loss.curves[0].tolist() == [[1, 9], [2, 4], [3, 3]]


@pytest.mark.parametrize("damage", ["no table", "", None])
def test_a_damaged_or_missing_curve_is_left_out_and_said(digits: Path, damage: str | None) -> None:
    place = fitted(digits) / layout.attempt("f01", 1, layout.CURVE)
    place.unlink() if damage is None else place.write_text(damage)
    run = load_run(digits)
    (loss,) = losses(run, summary_in(digits))
    assert (len(loss.curves), loss.fits) == (1, 2)
    what = "is missing" if damage is None else "does not match its checksum"
    assert [str(one) for one in run.damaged] == [f"cells/f01/attempts/1/curve.parquet {what}"]
    page = Page(write_page(digits).read_text(encoding="utf-8")).text
    assert f"Damaged: cells/f01/attempts/1/curve.parquet {what}. What is damaged" in page
    assert "remove its folder (cells/f01/attempts/1)" in page


def test_thinned_curves_keep_their_mean() -> None:
    curve = np.stack([np.arange(1000.0), np.arange(1000.0) ** 2], axis=1)
    thin = thinned(curve, 100)
    assert len(thin) == 100 and thin.mean(0) == pytest.approx(curve.mean(0))
    assert thinned(curve[:5], 100) is not None and len(thinned(curve[:5], 100)) == 5


def test_the_page_shows_training_where_there_was_any(digits: Path) -> None:
    assert 'id="training"' not in write_page(digits).read_text(encoding="utf-8")
    text = write_page(fitted(digits)).read_text(encoding="utf-8")
    (section,) = re.findall(r'<section id="training">(.*?)</section>', text, re.DOTALL)
    assert "Losses of mfm-ft by step" in section
    assert section.count("<path") >= 3 and "mfm-ft · match" in section
    assert write_page(digits).read_text(encoding="utf-8") == text
