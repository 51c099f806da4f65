"""The table of aggregates: what the data modules compute, of who may be called the best."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.data.comparisons import fair_entries, unmarked
from reports.data.marks import summary_of
from reports.data.ranking import rank_stability
from reports.data.run import load_run
from reports.figures.palette import looks
from reports.tables.stability import likely_ranks, stability_grid
from tests.worlds.made_run import make_run


@pytest.mark.parametrize(
    ("chance", "ranks"),
    [([1.0, 0.0, 0.0], (1, 1)), ([0.5, 0.45, 0.05], (1, 2)), ([0.05, 0.05, 0.9], (3, 3)),
     ([0.3, 0.3, 0.4], (1, 3))],
)  # fmt: skip
def test_the_shortest_range_that_is_likely_enough(chance, ranks) -> None:
    assert likely_ranks(np.array(chance)) == ranks


def test_the_table_holds_unmarked_rows_with_their_chances(tmp_path) -> None:
    folder = make_run(tmp_path / "run", tasks=("digits",), rewards=("class-mixture",))
    summary = summary_of(load_run(folder))
    problem = summary.problems[0]
    found = stability_grid(summary, problem, looks(summary.colours))
    assert found is not None and found.groups[0].title == "paper-nfe=500, by frechet"
    rows = {line.cells[0].text: line.cells for line in found.groups[0].lines}
    assert "dps" not in rows, "it maximises"
    entries = unmarked(fair_entries(summary.of(problem, "paper-nfe=500"), "frechet"))
    stable = rank_stability(entries, "frechet", "lower")
    assert stable is not None and set(rows) == {e.method for e in stable.entries}
    for entry, chance in zip(stable.entries, stable.chance, strict=True):
        assert float(rows[entry.method][3].sort) == pytest.approx(chance[0])
    # Of three seeds the middle half is what no end rules; three are too few for an interval.
    values = sorted(
        r.value for r in summary.of(problem, "paper-nfe=500")[0].estimate("frechet").rows
    )
    middle = float(rows["prior"][1].sort)
    assert values[0] < middle < values[-1] and not rows["prior"][1].minor
    # The best baseline itself, and one that always loses to it.
    assert rows["rollout"][2].text == "–" and rows["prior"][2].text == "0\u2009%"


def test_five_seeds_have_intervals(tmp_path) -> None:
    folder = make_run(
        tmp_path / "run", tasks=("digits",), rewards=("class-mixture",), troubles=False
    )
    cells, metrics = (pd.read_parquet(folder / f"{n}.parquet") for n in ("cells", "metrics"))
    more_cells, more_metrics = [cells], [metrics]
    for k in (3, 6):
        more_cells.append(cells.assign(cell=cells["cell"] + f"-{k}", seed=cells["seed"] + k))
        shifted = metrics["value"] * (1 + 0.001 * k)
        more_metrics.append(metrics.assign(cell=metrics["cell"] + f"-{k}", value=shifted))
    pd.concat(more_cells).to_parquet(folder / "cells.parquet")
    pd.concat(more_metrics).to_parquet(folder / "metrics.parquet")
    summary = summary_of(load_run(folder))
    found = stability_grid(summary, summary.problems[0], looks(summary.colours))
    assert found is not None
    assert all(line.cells[1].minor.startswith("±") for g in found.groups for line in g.lines)


def test_one_seed_has_no_such_table(tmp_path) -> None:
    folder = make_run(tmp_path / "run", tasks=("digits",), rewards=("class-mixture",))
    cells = pd.read_parquet(folder / "cells.parquet")
    cells[cells["seed"] == 0].to_parquet(folder / "cells.parquet")
    summary = summary_of(load_run(folder))
    assert stability_grid(summary, summary.problems[0], looks(summary.colours)) is None
