"""The page in a real browser: offline, from a file, by mouse and by keyboard."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from reports.html import write_page
from tests.reports.test_hostile import NASTY, nasty
from tests.worlds import browser as worlds
from tests.worlds.browser import PAPER, PHONE, WIDE, Browser, Opened
from tests.worlds.made_run import make_run

# Fixture: pytest looks for it in this module.
browser = worlds.browser

HEADLINE = "table.headline >> nth=0"
DISTANCE = 1
"""Place of the column of the main distance."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(make_run(tmp_path_factory.mktemp("page") / "quickstart"))


@pytest.fixture(params=[WIDE, PHONE], ids=["wide", "phone"])
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    return request.param


def column(opened: Opened, place: int, body: int = 0) -> list[str]:
    """Texts of a column of the first headline table, in one of its groups."""
    rows = opened.page.locator(f"{HEADLINE} >> tbody >> nth={body} >> tr:not(.group)")
    return [row.locator("td").nth(place).inner_text() for row in rows.filter(visible=True).all()]


def test_nothing_is_asked_of_anybody_and_nothing_fails(browser: Browser, file: Path, size) -> None:
    with browser.open(file, size) as opened:
        opened.unfold()
        chapters = opened.page.locator("main > section").all()
        assert len(chapters) >= 12
        assert all(chapter.is_visible() for chapter in chapters)
        links = [a.get_attribute("href") for a in opened.page.locator("nav a").all()]
        assert links == [f"#{chapter.get_attribute('id')}" for chapter in chapters]
        assert opened.requests == [file.as_uri()]
        assert not opened.errors


def test_the_page_is_no_wider_than_the_screen(browser: Browser, file: Path, size) -> None:
    with browser.open(file, size) as opened:
        opened.unfold()
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= size[0]


def test_a_link_opens_the_chapter_it_leads_to(browser: Browser, file: Path) -> None:
    with browser.open(file) as opened:
        assert not opened.page.locator("#compute table").first.is_visible()
        opened.page.locator("nav a[href='#compute']").click()
        opened.page.locator("#compute table").first.wait_for(state="visible")


@pytest.mark.parametrize("press", [lambda head: head.click(), lambda head: head.press("Enter")])
def test_a_heading_sorts_the_best_first_and_then_the_worst(
    browser: Browser, file: Path, press
) -> None:
    with browser.open(file, anchor="#headline") as opened:
        before = column(opened, DISTANCE)
        head = opened.page.locator(f"{HEADLINE} >> thead button.sort >> nth={DISTANCE}")
        for sign, said in ((1, "ascending"), (-1, "descending")):
            press(head)
            values = [float(text.split()[0]) for text in column(opened, DISTANCE)]
            assert values == sorted(values, key=lambda v: sign * v)
            assert head.locator("xpath=..").get_attribute("aria-sort") == said
        assert sorted(before) == sorted(column(opened, DISTANCE)), "the same rows"


def test_rows_are_filtered_by_words(browser: Browser, file: Path) -> None:
    with browser.open(file, anchor="#headline") as opened:
        opened.page.locator("#headline input[type=search]").first.fill("mfm draws")
        assert {name.split()[0] for name in column(opened, 0)} == {"mfm-g:draws=4"}
        opened.page.locator("#headline input[type=search]").first.fill("")
        assert len(column(opened, 0)) > 5


def test_groups_of_columns_are_hidden_and_shown(browser: Browser, file: Path) -> None:
    with browser.open(file, anchor="#headline") as opened:
        box = opened.page.locator("#headline .tools").first.get_by_label("reward and judges")
        heads = f"{HEADLINE} >> thead tr:last-child th"
        whole = opened.texts(heads)
        box.uncheck()
        assert any(text.startswith("reward") for text in whole)
        assert not any(text.startswith("reward") for text in opened.texts(heads))
        box.check()
        assert opened.texts(heads) == whole


def downloaded(opened: Opened, kind: str) -> tuple[str, str]:
    with opened.page.expect_download() as waiting:
        opened.page.locator("#headline .tools").first.get_by_text(kind, exact=True).click()
    name = waiting.value.suggested_filename
    return name, Path(waiting.value.path()).read_text(encoding="utf-8")


def test_downloads_hold_the_rows_and_columns_that_are_shown(browser: Browser, file: Path) -> None:
    with browser.open(file, anchor="#headline") as opened:
        opened.page.locator("#headline input[type=search]").first.fill("rollout")
        heads = opened.texts(f"{HEADLINE} >> thead tr:last-child th")
        name, text = downloaded(opened, "CSV")
        head, *rows = csv.reader(io.StringIO(text))
        assert name == "headline.csv"
        assert head == ["group", *heads]
        assert {row[1].split()[0] for row in rows} == {"rollout"}
        name, text = downloaded(opened, "LaTeX")
        assert name == "headline.tex"
        assert text.startswith("\\begin{tabular}") and text.rstrip().endswith("\\end{tabular}")
        assert text.count("rollout") == len(rows)


def test_a_gallery_shows_one_budget_and_opens_pictures_in_large(
    browser: Browser, file: Path
) -> None:
    with browser.open(file, anchor="#gallery") as opened:
        page = opened.page
        tabs = page.locator("#gallery .tabs").filter(has=page.locator(".zoom")).first
        for button in tabs.locator(".tabbar button").all():
            button.click()
            assert opened.texts("#gallery .tabs:has(.zoom) .where")[0].startswith(
                button.inner_text()
            )
        pictures = tabs.locator(".tab:visible tr").first.locator(".zoom")
        pictures.nth(1).focus()
        page.keyboard.press("Enter")
        large = page.locator("dialog.enlarged")
        assert large.is_visible()
        assert "sample 1," in large.inner_text()
        assert large.locator("img").evaluate("i => i.naturalWidth") == 8
        page.keyboard.press("ArrowRight")
        assert "sample 2," in large.inner_text()
        page.keyboard.press("ArrowDown")
        assert "best-of-n" in large.inner_text() and "sample 2," in large.inner_text()
        assert not opened.violations()
        page.keyboard.press("Escape")
        assert not large.is_visible()
        assert page.evaluate("document.activeElement.title").startswith("sample 2,")
        pictures.first.click()
        assert large.is_visible()
        large.get_by_text("Close").click()
        assert not large.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, file: Path, size, scheme: str) -> None:
    with browser.open(file, size, scheme) as opened:
        opened.unfold()
        assert not opened.violations()


def test_axe_finds_nothing_serious_on_paper_and_no_column_is_cut(
    browser: Browser, file: Path
) -> None:
    with browser.open(file, PAPER) as opened:
        opened.page.emulate_media(media="print")
        opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert not opened.violations()
        edges = opened.page.evaluate(
            "[...document.querySelectorAll('table, svg, pre')].map("
            "e => Math.max(e.getBoundingClientRect().right, 0))"
        )
        assert len(edges) > 10
        assert max(edges) <= PAPER[0] + 1


def test_everything_is_printed(browser: Browser, file: Path) -> None:
    """Folded chapters too; afterwards they are folded as before."""
    with browser.open(file) as opened:
        folded = opened.page.locator("details:not([open])").count()
        data = opened.page.pdf(prefer_css_page_size=True)
        pages = len(re.findall(rb"/Type\s*/Page\b", data))
        assert pages > 8
        assert opened.page.locator("details:not([open])").count() == folded


@pytest.mark.parametrize("kind", NASTY)
def test_hostile_text_runs_nothing_and_widens_nothing(
    browser: Browser, tmp_path: Path, kind: str
) -> None:
    source = write_page(nasty(tmp_path / "run", NASTY[kind]))
    with browser.open(source, PHONE) as opened:
        opened.unfold()
        assert not opened.errors
        assert opened.requests == [source.as_uri()]
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
