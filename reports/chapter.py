"""The chapters of the page: each is a module of `reports.chapters` beside its template.

A chapter is found by being there: `chapters/NAME.py` holds a `CHAPTER`, the template
`chapters/NAME.html` shows what it returns, as `it`, and NAME is its anchor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from reports import chapters
from reports.data.marks import summary_of
from reports.data.run import RunTables
from reports.data.summary import ProblemKey, Summary
from reports.figures.palette import MethodLooks
from reports.figures.palette import looks as choose_looks

Content = Mapping[str, Any]
"""What a chapter's template sees."""


@dataclass(frozen=True)
class Material:
    """What chapters are made from."""

    run: RunTables
    summary: Summary
    looks: MethodLooks

    @property
    def problems(self) -> list[ProblemKey]:
        """In the order in which they are shown."""
        return self.summary.problems

    @property
    def has_exact(self) -> bool:
        """Whether there are draws of a tilted law to compare with."""
        return any(entry.is_floor and len(entry.done) for entry in self.summary.entries)


def material_of(run: RunTables) -> Material:
    """A run, summarised once for all chapters."""
    summary = summary_of(run)
    return Material(run, summary, choose_looks(summary.colours))


@dataclass(frozen=True)
class Chapter:
    """A section of the page.

    place: small ones come first.  content: what is said; None where the run has nothing of it.
    """

    place: int
    title: str
    content: Callable[[Material], Content | None]


def all_chapters() -> dict[str, Chapter]:
    """Every chapter by name, in the order of the page."""
    names = [found.name for found in iter_modules(chapters.__path__)]
    known = {name: import_module(f"{chapters.__name__}.{name}").CHAPTER for name in names}
    return dict(sorted(known.items(), key=lambda pair: pair[1].place))


@dataclass(frozen=True)
class Shown:
    """A chapter of one page."""

    id: str
    title: str
    content: Content

    @property
    def template(self) -> str:
        """The file that shows it."""
        return f"chapters/{self.id}.html"


def written(material: Material) -> list[Shown]:
    """The chapters that have something to say."""
    made = ((name, c.title, c.content(material)) for name, c in all_chapters().items())
    return [Shown(name, title, content) for name, title, content in made if content is not None]
