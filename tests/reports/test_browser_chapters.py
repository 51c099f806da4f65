"""Heat maps, training curves and value estimates in a real browser: readable, quiet, no wider."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.html import write_page
from tests.reports.test_conditions_and_training import fitted, with_conditions
from tests.worlds import browser as worlds
from tests.worlds.browser import PAPER, PHONE, WIDE, Browser
from tests.worlds.made_run import make_run
from tests.worlds.value_study import studied

# Fixture: pytest looks for it in this module.
browser = worlds.browser

CHAPTERS = ("conditions", "training", "value")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chapters") / "run"
    made = make_run(folder, tasks=("digits",), rewards=("class-mixture",), troubles=False)
    return write_page(studied(fitted(with_conditions(made, 20), fits=3)))


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_they_are_quiet_readable_and_no_wider_than_the_screen(
    browser: Browser, file: Path, size: tuple[int, int], scheme: str
) -> None:
    with browser.open(file, size, scheme) as opened:
        opened.unfold()
        for chapter in CHAPTERS:
            assert opened.page.locator(f"#{chapter} table:visible").count()
        assert not opened.errors
        assert opened.requests == [file.as_uri()]
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert not opened.violations()
        # A panel keeps the size at which its letters can be read: the figure scrolls.
        widths = opened.page.locator("#value svg.answer, #training svg.answer").evaluate_all(
            "all => all.map(svg => svg.getBoundingClientRect().width"
            " / (svg.viewBox.baseVal.width / 250))"
        )
        assert widths and min(widths) >= 195


def test_one_heat_map_is_shown_at_a_time_and_its_shade_is_its_value(
    browser: Browser, file: Path
) -> None:
    with browser.open(file, anchor="#conditions") as opened:
        page = opened.page
        buttons = page.locator("#conditions .tabbar button").all_inner_texts()
        assert buttons[-1] == "frechet, paper-nfe=500" and len(buttons) == 6
        assert page.locator("#conditions .tab:visible").count() == 1
        page.get_by_role("button", name="reward, paper-nfe=500", exact=True).click()
        shown = page.locator("#conditions .tab:visible td[class^=h]").evaluate_all(
            "all => all.map(td => [Number(td.dataset.sort), Number(td.className.slice(1))])"
        )
        assert len(shown) > 50
        ordered = sorted(shown)
        assert [shade for _, shade in ordered] == sorted(shade for _, shade in shown)


def test_on_paper_nothing_of_them_is_cut(browser: Browser, file: Path) -> None:
    with browser.open(file, PAPER) as opened:
        opened.page.emulate_media(media="print")
        opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        edges = opened.page.evaluate(
            "[...document.querySelectorAll('table, svg')].map(e => e.getBoundingClientRect().right)"
        )
        assert max(edges) <= PAPER[0] + 1
        assert opened.page.locator("#conditions .tab:visible").count() == 6
        assert not opened.violations()
