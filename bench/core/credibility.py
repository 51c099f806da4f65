"""How often people choose as a learned judge does: published figures, with their source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NOT_PUBLISHED = "not published"


@dataclass(frozen=True)
class Accuracy:
    """Share of people's choices between two pictures that a judge makes too, as published."""

    benchmark: str
    percent: float
    source: str

    def __str__(self) -> str:
        return f"{self.benchmark} {self.percent:g} %"


@dataclass(frozen=True)
class Credibility:
    """The figures in one line, and where they come from; both empty where nothing is learnt."""

    accuracy: str = ""
    source: str = ""


def credibility(found: Sequence[Accuracy]) -> Credibility:
    """Of a learned judge: without figures it says that there are none."""
    if not found:
        return Credibility(NOT_PUBLISHED)
    sources = dict.fromkeys(one.source for one in found)
    return Credibility(", ".join(map(str, found)), "; ".join(sources))
