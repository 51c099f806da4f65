"""Pages in Chromium, without a network; a test that asks for one is skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, PHONE = (1440, 900), (390, 844)
PAPER = (1032, 720)
"""A4 landscape between its margins, in CSS pixels."""


def executable() -> str | None:
    """The browser to use: CHROMIUM, else the first that is on the path."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Opened:
    """A page as a reader has it, and what it did that nobody should see."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def unfold(self) -> None:
        """Open every chapter and detail."""
        self.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")

    def texts(self, selector: str) -> list[str]:
        """Of what can be seen."""
        found = self.page.locator(selector).filter(visible=True).all_inner_texts()
        return [" ".join(text.split()) for text in found]

    def violations(self) -> list[str]:
        """What axe-core finds of level serious or above."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        grave = [v for v in found if v["impact"] in ("serious", "critical")]
        return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in grave]


@dataclass(frozen=True)
class Browser:
    """A browser that opens pages, each as a new reader."""

    chromium: Any

    @contextmanager
    def open(
        self,
        file: Path,
        size: tuple[int, int] = WIDE,
        scheme: str = "light",
        anchor: str = "",
        before: str = "",
    ) -> Iterator[Opened]:
        """A file at its file:// address; `before` is a script that runs ahead of its own."""
        width, height = size
        context = self.chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
        )
        opened = Opened(context.new_page())
        page = opened.page
        page.on("console", lambda m: opened.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: opened.errors.append(str(error)))
        page.on("dialog", lambda dialog: (opened.errors.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.add_init_script(before)
        page.goto(file.as_uri() + anchor)
        try:
            yield opened
        finally:
            context.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if executable() is None:
        pytest.skip("no Chromium on this machine")
    with launched() as found:
        yield found


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser of this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable(), args=FLAGS)
        yield Browser(chromium)
        chromium.close()
