"""Claims as data: what is refused, which rows a claim means, and every verdict on invented runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core.params import UserError
from reports.data.claims import Claim, ClaimError, meant, read_claims, shipped_claims
from reports.data.entries import summarise
from reports.data.run import tidy_cells, tidy_metrics
from reports.data.summary import Summary
from reports.data.verdicts import verdict
from reports.html import write_page
from reports.text.claims import as_data, told
from tests.worlds.made_run import make_run

SOURCE = {"source": "section 7"}


def claim(**rest: object) -> Claim:
    usual = {"id": "one", "says": "A is above B.", "metric": "reward", "row": "a", "against": "b"}
    return Claim.model_validate({**usual, **SOURCE, "direction": "higher", **rest})


def run_of(values: dict[str, list[float]], fit: str = "", **columns: object) -> Summary:
    """Rows of these rewards by seed, on one task at one budget; method a may share one fit."""
    cells, metrics = [], []
    for method, rewards in values.items():
        for seed, value in enumerate(rewards):
            cell = f"{method}-{seed}"
            cells.append({
                "cell": cell, "task": "digits", "reward": "template:index=3", "strength": 1.0,
                "method": method, "method_name": method.partition(":")[0], "seed": seed, "n": 64,
                "budget": "paper-nfe=100", "budget_unit": "paper-nfe", "budget_amount": 100.0,
                "status": "ok", "fit": fit if method == "a" else "",
                "paper_nfe": 50.0 if method == "a" else 5000.0, **columns,
            })  # fmt: skip
            metrics.append({"cell": cell, "metric": "reward", "value": value, "n": 64,
                            "direction": "higher", "measures": "target", "rank": 10})  # fmt: skip
    return summarise(tidy_cells(pd.DataFrame(cells)), tidy_metrics(pd.DataFrame(metrics)))


NOISE = np.array([-0.1, 0.05, 0.0, 0.08, -0.03])
"""Common to all methods: differences pair it away."""
JITTER = np.array([0.01, -0.02, 0.015, 0.0, -0.005])

ABOVE = {"a": list(1.0 + NOISE + JITTER), "b": list(0.5 + NOISE)}
LIKE = {"a": list(0.5 + NOISE + 4 * JITTER), "b": list(0.5 + NOISE)}


# -- every verdict -----------------------------------------------------------------------------


def test_a_claim_holds_with_its_interval_and_repetitions() -> None:
    found = verdict(run_of(ABOVE), claim())
    assert found.outcome == "holds"
    (pair,) = found.evidence
    assert pair.advantage == pytest.approx(0.5) and pair.repetitions == 5
    # t with 4 degrees of freedom: paired, what the seeds share is not in it.
    half = 2.776 * np.std(JITTER, ddof=1) / np.sqrt(5)
    assert pair.high - pair.low == pytest.approx(2 * half, rel=1e-3)
    assert "advantage 0.5 (" in told(found) and "5 repetitions" in told(found)


def test_the_other_way_round_it_does_not_hold() -> None:
    found = verdict(run_of(ABOVE), claim(direction="lower"))
    assert found.outcome == "does not hold" and "refuted on 1" in told(found)


@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_what_the_seeds_do_not_tell_cannot_be_told(direction: str) -> None:
    assert verdict(run_of(LIKE), claim(direction=direction)).outcome == "cannot be told"


def test_no_worse_by_more_than_a_margin_is_another_claim() -> None:
    summary = run_of(LIKE)
    assert verdict(summary, claim(by=-0.2)).outcome == "holds"
    assert verdict(summary, claim(by=0.2)).outcome == "does not hold"


def test_several_fits_are_what_is_repeated_and_one_tells_nothing() -> None:
    found = verdict(run_of(ABOVE, fit="f0"), claim())
    assert found.outcome == "cannot be told"
    assert "without an interval" in told(found) and "`a` has one fit" in told(found)


def test_what_the_run_lacks_is_named() -> None:
    summary = run_of(ABOVE)
    lacks = {
        "no cells of task `shapes`": claim(where={"task": "shapes"}),
        "no row of `c`": claim(against="c"),
        "no row of `a:draws=2`": claim(row="a:draws=2"),
        "`judge` has no value": claim(metric="judge"),
    }
    for why, asked in lacks.items():
        found = verdict(summary, asked)
        assert found.outcome == "not measured" and why in found.why, why
        assert told(found) == f"Not measured here: {found.why}."


def test_a_factor_is_paired_cell_by_cell() -> None:
    """a is twice b in every seed, while b goes from 1 to 5: unpaired nothing could be told."""
    b = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    summary = run_of({"a": list(2 * b + JITTER), "b": list(b)})
    assert verdict(summary, claim(times=1.9)).outcome == "holds"
    assert verdict(summary, claim(times=2.1)).outcome == "does not hold"
    assert verdict(summary, claim(times=2.0)).outcome == "cannot be told"
    assert verdict(summary, claim(times=2.0, by=-0.1)).outcome == "holds"


def test_units_of_compute_are_counts() -> None:
    summary = run_of(ABOVE)
    exact = verdict(summary, claim(metric="paper-nfe", direction="lower", times=0.011))
    assert exact.outcome == "holds" and "counted" in told(exact)
    less = claim(metric="paper-nfe", direction="lower", times=0.009)
    assert verdict(summary, less).outcome == "does not hold"


def test_a_row_may_be_held_against_a_number() -> None:
    summary = run_of(ABOVE)
    assert verdict(summary, claim(against="", by=0.8)).outcome == "holds"
    assert verdict(summary, claim(against="", by=1.2)).outcome == "does not hold"
    assert verdict(summary, claim(against="", by=1.2, direction="lower")).outcome == "holds"


def test_one_pair_of_many_is_no_refutation_by_chance() -> None:
    """Null pairs: the claim "all are above" is refuted by chance as rarely as one pair would be."""
    rng, refuted = np.random.default_rng(0), 0
    for _ in range(120):
        rows = {f"a:draws={k}": list(rng.standard_normal(5)) for k in range(6)}
        found = verdict(run_of({**rows, "b": list(rng.standard_normal(5))}), claim())
        assert len(found.evidence) == 6
        refuted += found.outcome == "does not hold"
    # At most 2.5 % for the family: 3 of 120, and three standard errors more.
    assert refuted <= 8


def test_a_failed_seed_is_left_out_on_both_sides() -> None:
    values = {"a": [1.0, 1.1, 1.05, 9.0], "b": [0.5, 0.62, 0.55]}
    (pair,) = verdict(run_of(values), claim()).evidence
    assert pair.advantage == pytest.approx((0.5 + 0.48 + 0.5) / 3) and pair.repetitions == 3


# -- which rows --------------------------------------------------------------------------------


def test_a_row_is_a_method_with_parameters_as_written() -> None:
    label = "mfm-gf:posterior=exact,draws=64,steps=100"
    assert meant("mfm-gf", label) and meant("mfm-gf:draws=64", label)
    assert meant("mfm-gf:steps=100,draws=64", label)
    assert not meant("mfm-gf:draws=6", label) and not meant("mfm-g", label)


def test_rows_of_one_method_agree_in_what_the_claim_leaves_open() -> None:
    values = {f"a:draws={d},steps={s}": ABOVE["a"] for d in (4, 16) for s in (10, 20)}
    found = verdict(run_of(values), claim(row="a:draws=16", against="a:draws=4"))
    pairs = [(e.row, e.other) for e in found.evidence]
    assert pairs == [(f"a:draws=16,steps={s}", f"a:draws=4,steps={s}") for s in (10, 20)]


# -- files -------------------------------------------------------------------------------------


def test_every_shipped_claim_reads_and_names_its_source() -> None:
    found = shipped_claims()
    assert len({c.id for c in found}) == len(found) >= 10
    assert all("arXiv 2601.14430" in c.source or c.source.startswith("docs/") for c in found)


BAD = {
    "- id: Bad Name": "has to be of small letters",
    "- id: x\n  metrics: reward": "unknown key `metrics`; known are id, says",
    "- id: x\n  direction: up": "`direction`",
    "- id: x\n  times: -1": "`times`",
    "- id: x\n  where: {model: a}": "unknown key `where.model`; known are task, reward, budget",
    "- just words": "claim 1 is not a table",
    "[": "is no YAML",
    "2001-99-99": "is no YAML",
    "": "needs a list under the key `claims`",
}
WHOLE = "\n  says: s\n  source: t\n  metric: m\n  row: a"


@pytest.mark.parametrize(("text", "said"), BAD.items())
def test_a_bad_file_is_refused_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    rest = WHOLE + ("" if "direction" in text else "\n  direction: lower")
    file.write_text(f"claims:\n{text}{rest if text.startswith('- id') else ''}\n")
    with pytest.raises(ClaimError) as refused:
        read_claims(file)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_missing_or_there_twice_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("claims:\n- id: x\n")
    with pytest.raises(ClaimError, match="the claim `x`: the key `says` is missing"):
        read_claims(file)
    one = f"\n- id: x{WHOLE}\n  direction: lower"
    file.write_text(f"claims:{one}{one}\n")
    with pytest.raises(ClaimError, match="two claims with the id `x`"):
        read_claims(file)


# -- the page and the command ------------------------------------------------------------------

MINE = """claims:
- id: mine
  says: <b>Ours</b> has a higher reward than the base model.
  source: a bet
  metric: reward
  row: mfm-gf
  against: prior
  direction: higher
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", troubles=False)


def test_the_page_has_a_chapter_where_a_claim_is_about_the_run(folder: Path) -> None:
    text = write_page(folder).read_text(encoding="utf-8")
    assert '<section id="claims">' in text and "Not measured in this run:" in text
    assert "Off-policy fine-tuning brings the flow nearer" in text
    assert write_page(folder).read_text(encoding="utf-8") == text


def test_the_command_says_and_lists_what_holds(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    words = ["claims", str(folder), "--claims", str(file)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0 and "<b>Ours</b> has a higher reward" in done.output
    data = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    mine = next(entry for entry in data if entry["id"] == "mine")
    assert mine["verdict"] == "holds" and {e["task"] for e in mine["evidence"]} == {
        "digits",
        "gmm-paper",
    }
    assert all(e["low"] > 0 and e["repetitions"] == 3 for e in mine["evidence"])


def test_a_bad_file_is_an_error_of_the_command(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("claims: 3\n")
    with pytest.raises(UserError, match="needs a list"):
        CliRunner().invoke(
            app, ["claims", str(folder), "--claims", str(file)], catch_exceptions=False
        )


def test_unknown_numbers_are_null(folder: Path) -> None:
    found = verdict(run_of(ABOVE, fit="f0"), claim())
    (pair,) = as_data(found)["evidence"]
    assert pair["low"] is None and pair["task"] == "digits"
    json.dumps(as_data(found), allow_nan=False)
