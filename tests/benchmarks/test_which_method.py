"""The page that says which method: its table is what the stored tables and declarations make."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.methods import Need
from benchmarks.which_method import (
    HAVE,
    PAGE,
    QUESTIONS,
    README,
    Row,
    lines,
    ranked,
    rows_of,
    said,
    short_lines,
    written,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("page", "table"), [(PAGE, lines), (README, short_lines)])
def test_the_table_of_a_page_is_made_from_the_stored_tables(page, table) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert written(text, table(ROOT / "results")) == text


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.short)
def test_a_row_needs_no_more_than_there_is(question) -> None:
    rows = rows_of(question, ROOT / "results")
    for budget in question.budgets:
        for have in HAVE.values():
            found = ranked(rows, budget, have)
            assert found and all(row.needs <= have for row in found)
            assert found == sorted(found, key=lambda row: row.value)
    assert not {"exact", "oracle", "prior"} & {row.method for row in rows}


def test_rows_whose_intervals_overlap_are_named_beside_the_nearest() -> None:
    rows = [Row("gibbs", "", 1.0, 0.2), Row("sir", "", 1.3, 0.15), Row("mfm-gf", "", 1.5, 0.1)]
    assert said(rows) == "`gibbs` 1.00 ± 0.2 (or `sir`)"
    assert said([]) == "not run"


def test_what_a_reader_has_is_said_in_the_words_of_the_methods() -> None:
    assert {need for have in HAVE.values() for need in have} == {
        Need.REWARD_GRADIENT,
        Need.FLOW_MAP,
    }
