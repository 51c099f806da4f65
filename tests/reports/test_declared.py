"""What a report says is what the record declares: no name of a plugin means anything to it."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest

from bench.core import plugins
from bench.core.cells import About
from bench.core.methods import Method
from bench.core.metrics import Metric
from bench.record import columns
from bench.record.attempt import MetricRow
from bench.record.tables import DECLARED, _declared
from reports.data.summary import MethodInfo
from reports.html import write_page
from reports.tables.markdown import markdown
from tests.worlds.made_run import DIGITS, METHODS, METRICS, make_run
from tests.worlds.report_page import Page

CONTRACT = ("reward", "judge")
"""The two metrics whose names are columns of samples.parquet."""


def changed(folder: Path, table: str, **columns: object) -> None:
    """Assign columns of a stored table."""
    path = folder / f"{table}.parquet"
    frame = pd.read_parquet(path)
    frame.assign(**columns).to_parquet(path)


def renamed(folder: Path, names: dict[str, str]) -> None:
    """Give methods and metrics other names, and leave what they declare."""
    labels = pd.read_parquet(folder / "cells.parquet")["method"]
    parts = labels.str.partition(":")
    plain = parts[0].map(names)
    changed(folder, "cells", method=plain + parts[1] + parts[2], method_name=plain)
    metrics = pd.read_parquet(folder / "metrics.parquet")["metric"]
    changed(folder, "metrics", metric=metrics.map(lambda name: names.get(name, name)))


def page_of(folder: Path) -> str:
    """The page and all its words; of figures the words alone, whose places vary with glyphs."""
    source = write_page(folder).read_text(encoding="utf-8")
    plain = re.sub(r'<svg.*?</svg>|data:image/png;base64,[^"]*', "", source, flags=re.DOTALL)
    return plain + Page(source).text


def test_a_report_knows_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same run under other names gives the same page and the same tables, name for name.

    But for claims, which are data and name what they are about.
    """
    monkeypatch.setattr("reports.data.claims.SHIPPED", tmp_path / "none")
    known = [*METHODS, "someone-elses", *(name for name in METRICS if name not in CONTRACT)]
    swap = {name: f"q{i:02d}".ljust(len(name), "q") for i, name in enumerate(known)}
    one, other = make_run(tmp_path / "one" / "run"), make_run(tmp_path / "other" / "run")
    renamed(other, swap)
    for write in (page_of, markdown):
        text = write(other)
        for name, strange in sorted(swap.items(), key=lambda pair: -len(pair[1])):
            text = text.replace(strange, name)
        assert text == write(one)


def test_somebody_elses_baseline_is_an_equal(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", rewards=("class-mixture",), troubles=False)
    name = pd.read_parquet(folder / "cells.parquet")["method_name"]
    theirs = name == "someone-elses"
    cells = pd.read_parquet(folder / "cells.parquet")
    changed(
        folder,
        "cells",
        method_summary=cells["method_summary"].where(~theirs, "walks until it likes what it sees"),
        method_standing=cells["method_standing"].where(~theirs, "baseline"),
        method_tag=cells["method_tag"].where(~theirs, "theirs"),
    )
    source = write_page(folder).read_text(encoding="utf-8")
    assert "walks until it likes what it sees" in source
    assert '<span class="tag theirs">theirs</span>' in source
    tests = source[source.index("differences in <code>frechet</code>") :]
    assert "<code>someone-elses:width=3</code>" in tests[: tests.index("</details>")]


@pytest.mark.parametrize("floor", [True, False])
def test_multiples_of_the_floor_are_a_matter_of_the_metric(tmp_path: Path, floor: bool) -> None:
    folder = make_run(tmp_path / "run", tasks=("gmm-paper",))
    metrics = pd.read_parquet(folder / "metrics.parquet")
    changed(folder, "metrics", floor=(metrics["metric"] == "sliced-w2") & floor)
    text = Page(write_page(folder).read_text(encoding="utf-8")).text
    assert ("× floor" in text) is floor
    assert ("Why dps is off: it is biased, regardless of compute" in text) is floor
    assert ("the lowest sliced-w2 is that of" in text) is not floor


def test_a_run_from_before_anything_was_declared_is_still_reported(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "old")
    for table, kept in (("cells", ("method", "method_name")), ("metrics", ())):
        path = folder / f"{table}.parquet"
        frame = pd.read_parquet(path)
        new = [c for c in frame if c.startswith(("method_", "task_")) and c not in kept]
        new += [c for c in DECLARED if c in frame]
        frame.drop(columns=new).to_parquet(path)
    page = Page(write_page(folder).read_text(encoding="utf-8"))
    assert "floor" not in page.text.split("Headline")[2].split("What the numbers say")[0]
    assert all(name in page.text for name in DIGITS)


def test_stored_rows_of_a_metric_are_completed_by_its_class() -> None:
    row, cls = MetricRow("sliced-w2", "1", value=0.3), plugins.load("metrics", "sliced-w2")
    found = _declared(row)
    assert all(getattr(found, word) == getattr(cls, word) for word in DECLARED)
    assert found.value == 0.3 and found.measures == "distance"
    own = replace(row, summary="theirs")
    assert _declared(own) == own
    unknown = replace(row, metric="not-installed")
    assert _declared(unknown) == unknown


def test_what_is_declared_is_the_same_everywhere() -> None:
    """Contracts, planned rows, columns and entries agree on names and on what silence means."""
    about = asdict(About())
    assert about == {name: columns.CELLS[name] for name in about}
    said = {word: about[f"method_{word}"] for word in asdict(MethodInfo())}
    assert said == asdict(MethodInfo()) == {word: getattr(Method, word) for word in said}
    assert {word: columns.METRICS[word] for word in DECLARED} == {
        word: getattr(Metric, word) for word in DECLARED
    }
