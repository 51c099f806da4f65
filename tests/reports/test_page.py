"""The page of a small invented run: what it must show, whatever state the run is in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

from reports.data.summary import Summary
from reports.html import write_page
from tests.worlds import report_page
from tests.worlds.made_run import make_run
from tests.worlds.report_page import Page

# Fixtures: pytest looks for them in this module.
run, source = report_page.run, report_page.source
page, summary = report_page.page, report_page.summary

SECTIONS = (
    "compared",
    "headline",
    "reading",
    "reward",
    "distance",
    "gallery",
    "governance",
    "compute",
    "unfinished",
    "unmatched",
    "reproduce",
)


def test_all_sections_are_there_in_order(page: Page) -> None:
    wanted = list(SECTIONS)
    assert [i for i in page.ids if i in wanted] == wanted


def test_ids_are_unique(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))


def test_nothing_is_loaded_from_outside(source: str, page: Page) -> None:
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert "http" not in source
    assert not re.search(r"@import|url\((?!#)", source)


def test_links_inside_the_page_lead_somewhere(page: Page) -> None:
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_building_twice_gives_the_same_bytes(run: Path, source: str) -> None:
    assert write_page(run).read_text(encoding="utf-8") == source
    assert {p.name for p in run.glob("*report*")} == {"report.html"}


def test_cells_without_a_result_are_named_with_their_reason(source: str, page: Page) -> None:
    assert "RuntimeError: <singular> matrix" in page.text
    assert "needs at least paper-nfe=110" in page.text
    assert "<singular>" not in source, "reasons are text, not markup"


def test_a_partly_failed_entry_keeps_its_number_and_says_so(summary: Summary) -> None:
    problem = next(p for p in summary.problems if p.reward == "class-mixture")
    entry = summary.find(problem, "rollout", "paper-nfe=500")
    assert entry is not None
    assert len(entry.estimate("reward").by_seed) == 2
    assert entry.trouble == "1 of 3 cells failed: RuntimeError: <singular> matrix"


def test_refused_metrics_are_dashes_with_the_reason(source: str, page: Page) -> None:
    why = "only 143 effective real digits under this tilt (at least 200 are needed)"
    assert re.search(rf'title="{re.escape(why)}"[^>]*><span class="value">–<', source)
    assert f"frechet and mmd2-features (–): {why}" in page.text


def test_what_intervals_are_over_is_said_once_per_table(source: str, page: Page) -> None:
    usual = "95 % interval over 3 seeds"
    assert f"±: {usual}, where a number says nothing else" in page.text
    tables = re.findall(r'<table class="headline".*?</table>', source, re.DOTALL)
    assert tables and not any(f'title="{usual}"' in table for table in tables)
    # Of two seeds of three: that is not what the others are over.
    assert 'title="95 % interval over 2 seeds"' in source


def test_figures_name_and_style_nothing_twice(source: str) -> None:
    figures = re.findall(r"<svg role=\"img\" aria-label.*?</svg>", source, re.DOTALL)
    assert figures
    for figure in figures:
        ids = set(re.findall(r' id="([^"]*)"', figure))
        assert ids == set(re.findall(r'(?:href="#|url\(#)([^")]+)', figure))
        classes, rules = (
            set(re.findall(r' class="(f\w+)"', figure)),
            re.findall(r"\.(f\w+){", figure),
        )
        assert classes == set(rules) and len(rules) == len(classes)
        assert not re.search(r"<\w+[^<>]* style=", figure)


def test_the_reading_is_computed_from_the_ratios(page: Page) -> None:
    assert "does not sample the tilted law: it climbs the reward" in page.text or (
        "do not sample the tilted law: they climb the reward" in page.text
    )
    assert re.search(r"dps \(1[34]\.\d×\)", page.text)
    assert "regardless of compute" in page.text


def test_without_a_floor_the_prior_is_the_yardstick(page: Page) -> None:
    assert re.search(r"dps \(0\.6\d+\) ends further from the tilted law \(frechet\)", page.text)


def test_an_accurate_dps_is_not_blamed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "good", tasks=("gmm-paper",))
    metrics = pd.read_parquet(folder / "metrics.parquet")
    metrics.loc[metrics["metric"] == "sliced-w2", "value"] = 0.1
    metrics.to_parquet(folder / "metrics.parquet")
    text = Page(write_page(folder).read_text(encoding="utf-8")).text
    assert "does not sample" not in text
    assert "regardless of compute" not in text


def test_over_optimisation_is_reported(page: Page) -> None:
    assert re.search(r"dps from paper-nfe=100 to paper-nfe=500 ?: .*over-optimisation", page.text)


def test_a_pending_run_is_reported_as_unfinished(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "pending", rewards=("class-mixture",), pending=True)
    text = Page(write_page(folder).read_text(encoding="utf-8")).text
    assert "This run is not finished" in text
    assert "pending" in text


def test_a_run_that_has_just_begun_is_reported(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "new", rewards=("inverse",))
    columns = ["cell", "task", "reward", "method", "budget", "seed"]
    pd.read_parquet(folder / "cells.parquet")[columns].to_parquet(folder / "cells.parquet")
    for name in ("metrics.parquet", "samples.parquet", "suite.yaml"):
        (folder / name).unlink()
    assert "nothing has finished yet" in Page(write_page(folder).read_text(encoding="utf-8")).text


def test_an_empty_folder_gives_an_empty_report(tmp_path: Path) -> None:
    assert "nothing has finished yet" in write_page(tmp_path).read_text(encoding="utf-8")


def test_reports_import_neither_torch_nor_ray_nor_mlflow() -> None:
    code = (
        "import sys, reports.html, reports.tables.terminal, reports.data.two_runs\n"
        "heavy = {'torch', 'ray', 'mlflow', 'methods', 'rewards'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
