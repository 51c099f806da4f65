"""The first screen: five questions, each answered with figures of the run, or refused."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pandas as pd
import pytest

from reports.data.comparisons import all_pairs, fair_entries
from reports.data.marks import summary_of
from reports.data.run import load_run
from reports.data.summary import Summary
from reports.figures.answer import Scale, answer_figure
from reports.figures.palette import looks
from reports.html import write_page
from reports.text.answers import answers
from reports.text.numbers import short
from tests.worlds.made_run import make_run, without_distances
from tests.worlds.report_page import Page

QUESTIONS = ("which", "cost", "law", "failed", "trust")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("answers") / "run"
    return make_run(where, rewards=("class-mixture", "inverse"))


@pytest.fixture(scope="module")
def source(folder: Path) -> str:
    return write_page(folder).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def summary(folder: Path) -> Summary:
    return summary_of(load_run(folder))


def panel(source: str, slug: str) -> str:
    start = source.index(f'id="{slug}"')
    return source[start : source.index("</dl>", start)]


def test_the_first_chapter_answers_five_questions_at_every_budget(source: str) -> None:
    first = source[source.index('<section id="') :]
    assert first.startswith('<section id="answer">')
    assert "<details" not in first[: first.index("</section>")], "nothing of it is folded"
    for slug in (
        "answer-digits-class-mixture-paper-nfe-100",
        "answer-gmm-paper-inverse-paper-nfe-500",
    ):
        found = re.findall(r'data-answer="(\w+)"', panel(source, slug))
        assert tuple(found) == QUESTIONS


def test_every_answer_is_one_click_from_its_table(source: str) -> None:
    own = panel(source, "answer-digits-class-mixture-paper-nfe-100")
    links = set(re.findall(r'href="#([^"]+)"', own))
    wanted = {"headline-digits-class-mixture", "compute", "distance", "unfinished", "reading"}
    assert links == wanted
    assert links <= set(Page(source).ids)


def test_every_term_of_the_first_screen_is_explained(source: str) -> None:
    linked = set(re.findall(r'href="#(term-[a-z]+)"', source))
    assert linked >= {"term-law", "term-distance", "term-nfe", "term-interval", "term-marks"}
    assert linked <= set(Page(source).ids)


def test_the_figures_are_those_of_the_run(summary: Summary) -> None:
    problem = next(p for p in summary.problems if p.task == "digits")
    small, large = answers(summary, problem)
    top = next(e for e in summary.of(problem, "paper-nfe=500") if e.method == large.best)
    nearest = min(
        e.estimate("frechet").mean for e in summary.of(problem, "paper-nfe=500") if not e.marks
    )
    assert top.estimate("frechet").mean == nearest
    assert f"{short(top.mean('paper_nfe'))} paper-nfe" in large.cost
    assert "on `cpu (Xeon)`, 1 thread" in large.cost
    base = summary.base(top)
    assert base is not None
    assert f"the untilted base model has {short(base.estimate('frechet').mean)}" in large.law
    assert re.search(r"of 12 base samples 1[12](\.\d)? are effective", large.law), "too few to tell"
    assert "3 of 27 cells have no result" in small.failed
    assert "needs at least paper-nfe=110" in small.failed


def test_the_law_itself_stands_beside_where_it_was_drawn(summary: Summary) -> None:
    problem = next(p for p in summary.problems if p.task == "gmm-paper")
    *_, large = answers(summary, problem)
    assert "draws of the law itself have 0.1" in large.law
    assert large.failed == "Nothing: all 27 cells of this budget have a result."


def test_without_a_distance_the_answer_says_what_it_cannot_tell(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", tasks=("digits",), rewards=("class-mixture",))
    without_distances(folder)
    summary = summary_of(load_run(folder))
    found = answers(summary, summary.problems[0])[-1]
    assert "No distance to the law that was asked for has a value here" in found.which
    assert answer_figure(summary, summary.problems[0], looks(summary.colours)) == ""


def test_a_run_that_has_just_begun_answers_nothing(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", tasks=("digits",), rewards=("class-mixture",))
    cells = pd.read_parquet(folder / "cells.parquet")
    cells.assign(status="pending", finished=None).to_parquet(folder / "cells.parquet")
    text = Page(write_page(folder).read_text(encoding="utf-8")).text
    assert "there is nothing to answer" in text


def test_any_two_rows_can_be_compared_and_say_what_the_tests_say(
    source: str, summary: Summary
) -> None:
    """What the page's script reads is every pair, with the p values of all tables."""
    problem = next(p for p in summary.problems if p.task == "digits")
    own = source[source.index('id="answer-digits-class-mixture-paper-nfe-500"') :]
    text = re.search(r'<script type="application/json" class="pairs">(.*?)</script>', own)
    assert text is not None
    data = {one["metric"]: one for one in json.loads(unescape(text[1]))}
    assert list(data) == ["frechet", "reward"]
    for metric, one in data.items():
        entries = fair_entries(summary.of(problem, "paper-nfe=500"), metric)
        pairs = all_pairs(entries, metric)
        assert one["names"] == [e.method for e in entries]
        assert len(one["rows"]) == len(entries) * (len(entries) - 1) / 2
        i, j, mean, half, p, count = one["rows"][3]
        found = pairs[entries[i], entries[j]]
        assert mean == pytest.approx(found.difference.mean, rel=6e-3)
        assert half == pytest.approx(found.difference.half, rel=6e-3)
        assert p == pytest.approx(found.adjusted, rel=6e-3) and count == found.difference.pairs


def test_scales_keep_order_and_their_ticks_lie_inside() -> None:
    for scale in (Scale(0.2, 500.0, 0.0, 100.0, True), Scale(-4.2, 1.1, 100.0, 0.0, False)):
        ticks = scale.ticks()
        assert 3 <= len(ticks) <= 8 and all(scale.low <= t <= scale.high for t in ticks)
        places = [scale(t) for t in ticks]
        assert places == sorted(places, reverse=scale.end < scale.start)
        assert scale(scale.high * 10) == scale.end, "what lies beyond is drawn at the end"
