"""What a reader asks first is on the first screen, or one click away, where the docs say it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.html import write_page
from tests.worlds import browser as worlds
from tests.worlds.browser import WIDE, Browser
from tests.worlds.made_run import make_run

# Fixture: pytest looks for it in this module.
browser = worlds.browser

PROBLEM, BUDGET = "digits · template:index=3", "paper-nfe=100"
QUESTIONS = {
    "which": ("Which method?", "All rows", "headline", "At paper-nfe=100"),
    "cost": ("What does it cost?", "All costs", "compute", " per image"),
    "law": ("Still the law that was asked for?", "All distances", "distance", "law"),
    "failed": (
        "What failed, and why?",
        "All cells without a result",
        "unfinished",
        "paper-nfe=110",
    ),
    "trust": ("Can I trust a difference?", "All tests", "reading", "compare:"),
}
"""Of each answer: its heading, its link, the chapter that leads to, and words of it."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(make_run(tmp_path_factory.mktemp("page") / "quickstart"))


def choose(page, label: str, text: str) -> None:
    page.get_by_label(label, exact=False).filter(visible=True).first.select_option(label=text)


@pytest.mark.parametrize("kind", QUESTIONS)
def test_an_answer_is_on_the_first_screen_and_more_of_it_one_click_away(
    browser: Browser, file: Path, kind: str
) -> None:
    heading, link, chapter, words = QUESTIONS[kind]
    with browser.open(file) as opened:
        page = opened.page
        menu = page.locator(".picker .bar select").first
        (option,) = (o for o in menu.locator("option").all_inner_texts() if o.startswith(PROBLEM))
        menu.select_option(label=option)
        choose(page, "Budget per image", BUDGET)
        answer = page.locator(f"[data-answer={kind}]").filter(visible=True)
        assert answer.count() == 1, "one budget of one problem at a time"
        assert words in answer.inner_text()
        assert answer.locator("xpath=preceding-sibling::dt[1]").inner_text() == heading
        box = answer.bounding_box()
        assert box["y"] + box["height"] <= WIDE[1], "without scrolling"
        answer.get_by_text(link, exact=True).click()
        more = page.locator(f"#{chapter}")
        more.locator("details.chapter[open]").first.wait_for()
        page.wait_for_function(
            "id => document.getElementById(id).getBoundingClientRect().top < innerHeight",
            arg=chapter,
        )


def test_any_two_rows_are_compared_by_two_menus(browser: Browser, file: Path) -> None:
    with browser.open(file, anchor="#answer-digits-class-mixture-paper-nfe-500") as opened:
        ask = opened.page.locator(".ask").filter(visible=True)
        ask.get_by_label("compare").select_option(label="dps")
        ask.get_by_label("with").select_option(label="mfm-gf")
        assert ask.inner_text().count("dps less mfm-gf: +") == 1
        assert "clearly different" in ask.inner_text()
        ask.get_by_label("with").select_option(label="dps")
        assert "cannot be compared with itself" in ask.inner_text()


def test_the_docs_say_where_each_answer_is() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    for heading, link, *_ in QUESTIONS.values():
        assert f"*{heading}*" in docs
        assert f"*{link}*" in docs
