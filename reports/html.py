"""The report: one HTML file that needs neither network nor server.

Everything in it is computed from the stored tables, so building it twice gives the same bytes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from bench.record import layout
from bench.record.files import RunFiles
from bench.record.seals import left_out
from reports.chapter import material_of, written
from reports.data.run import RunTables, load_run
from reports.text.labels import budget_label
from reports.text.overview import finished, reproduction, statuses

TEMPLATES = Path(__file__).parent / "templates"


def write_page(run: Path) -> Path:
    """Write RUN/report.html from what is stored so far, and return its path.

    Works on unfinished runs; the file is replaced in one step, so a reader never sees half of it.
    """
    return save_page(load_run(run))


def save_page(run: RunTables) -> Path:
    """Write the page of a run that was read; what was damaged is in `run.damaged` then."""
    files = RunFiles(str(run.path.parent), run.path.name)
    files.write(layout.REPORT, page_text(run).encode())
    return run.path / layout.REPORT


def page_text(run: RunTables) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    environment.filters |= {"code": code_spans, "budget_label": budget_label}
    return whole_characters(environment.get_template("report.html").render(_context(run)))


def whole_characters(text: str) -> str:
    """Halves of characters joined, as a file with escapes leaves them; lone ones replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def code_spans(text: str) -> Markup:
    """Escaped text in which `backticks` become code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def _scripts() -> str:
    """Every script, each in a block of its own, so that none sees the names of another."""
    files = sorted((TEMPLATES / "scripts").glob("*.js"))
    return '"use strict";\n' + "".join(
        f"{{\n{file.read_text(encoding='utf-8')}}}\n" for file in files
    )


def _context(run: RunTables) -> dict[str, Any]:
    shown = {"chapters": written(material_of(run)), "reproduction": reproduction(run)}
    return {
        "run": run,
        **shown,
        "damaged": left_out(run.damaged),  # known once everything was read
        "css": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "script": Markup(_scripts()),
        "finished": finished(run),
        "statuses": statuses(run),
    }
