"""Value estimates that a study kept with a run, on its page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.params import UserError
from bench.record.archive import packed, unpacked
from bench.record.store import Store
from reports.data.run import load_run
from reports.data.value_study import value_studies
from reports.html import write_page
from tests.worlds.made_run import make_run
from tests.worlds.report_page import Page


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "runs" / "quick", tasks=("gmm-paper",), rewards=("inverse",))


def study(run: Path, *more: str) -> None:
    command = ["study", "value", "-t", "gmm-paper", "-r", "linear", "--run", str(run)]
    command += ["--contexts", "8", "--draws", "2", "--draws", "8", "--time", "0.5"]
    command += ["--root", str(run.parent), *more]
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0


def section(run: Path) -> str:
    text = write_page(run).read_text(encoding="utf-8")
    assert write_page(run).read_text(encoding="utf-8") == text
    found = re.search(r'<section id="value">(.*?)</section>', text, re.DOTALL)
    return found[1] if found else ""


def test_a_study_stays_with_the_run_and_its_page_shows_the_errors(run: Path, tmp_path) -> None:
    assert section(run) == ""
    study(run)
    (found,) = value_studies(load_run(run))
    assert (found.task, found.reward, found.truth) == ("gmm-paper", "linear", "the closed form")
    costs = {(e.sampler, e.draws): e.cost for e in found.errors("V", 0.5)}
    # Draws of GLASS share their first evaluation, those of the map share none.
    assert costs["gaussian", 8] == 1 and costs["glass-4", 8] == 1 + 3 * 8
    assert costs["map-2", 8] == 16
    shown = section(run)
    one = next(e for e in found.errors("V", 0.5) if (e.sampler, e.draws) == ("map-1", 8))
    assert f"{one.value:.3f}" in shown and "against the closed form, 8 contexts" in shown
    assert "the values are in the table below" in shown
    study(run, "--draws", "4")
    assert len(value_studies(load_run(run))) == 1, "a study that is repeated replaces the first"
    assert packed(Store(str(run.parent), run.name), tmp_path / "a.tar.gz")
    again = unpacked(tmp_path / "a.tar.gz", tmp_path / "other")
    assert value_studies(load_run(again)) == value_studies(load_run(run))


def test_a_run_that_is_not_there_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run"):
        study(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": [1]}', '{"rows": [{"t": 1}]}'])
def test_what_cannot_be_read_is_left_out_and_said(run: Path, text: str) -> None:
    (run / "value-study-00.json").write_text(text)
    assert value_studies(load_run(run)) == [] and section(run) == ""
    page = Page(write_page(run).read_text(encoding="utf-8")).text
    assert "Damaged: value-study-00.json cannot be read (" in page
    assert "To have it again, remove it and repeat the command that made it." in page


def test_the_reference_says_how_well_the_truth_is_known(run: Path) -> None:
    row = {"t": 0.5, "evaluations": 200, "draws": 100, "quantity": "V", "statistic": "rmse"}
    row |= {"value": 0.2, "low": 0.1, "high": 0.3}
    rows = [{**row, "sampler": "reference/2"}, {**row, "sampler": "<b>", "evaluations": 0}]
    said = {"task": "digits", "reward": "<i>", "contexts": 4, "truth": "rollouts", "rates": []}
    said |= {"rows": rows, "rows_per_draw": {"<b>": 0}}
    (run / "value-study-00.json").write_text(json.dumps(said))
    shown = section(run)
    assert "no sampler can be expected to be nearer" in shown
    assert "<b>" not in shown.replace("<b></b>", "") and "<i>" not in shown
