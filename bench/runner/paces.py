"""Seconds of a row on this machine: of the cells that ended here, and of whatever was tried.

A small network takes the time of a call whatever it is asked, and draws of a map cost other time
than exact ones: rows of one method differ by a hundred times.  So a pace belongs to a setting of a
method, and a row that is to come has the pace of the nearest one that is known.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bench.core.params import UserError
from bench.record.files import RunFiles
from bench.record.projections import read_table

COLUMNS = (
    "task",
    "reward",
    "method_name",
    "params",
    "status",
    "n",
    "device",
    "paper_nfe",
    "fit_paper_nfe",
    "fit_seconds_total",
    "seconds",
    "cell_seconds",
    "warmup_seconds",
)
"""Of a run's table of cells."""


@dataclass(frozen=True)
class Pace:
    """Seconds of one row, counted as paper-nfe, and of what a cell takes besides."""

    row: float
    besides: float = 0.0


ELSEWHERE = 4.0


class Setting(NamedTuple):
    """What the seconds of a method's rows mostly depend on.

    choices: its parameters that are no numbers.  cost: rows of a sample.
    """

    method: str
    choices: str
    cost: float

    def far(self, other: Setting, elsewhere: bool) -> tuple[bool, float]:
        """How much another setting of the method differs, to be compared.

        elsewhere: known of another reward, which counts like rows that cost `ELSEWHERE` times more.
        """
        costs = max(self.cost, 1.0), max(other.cost, 1.0)
        away = abs(math.log(costs[0] / costs[1])) + elsewhere * math.log(ELSEWHERE)
        return self.choices != other.choices, away


def setting_of(method: str, params: Mapping[str, Any], cost: float) -> Setting:
    """Of a method with all of its parameters."""
    choices = {k: v for k, v in params.items() if isinstance(v, str | bool)}
    return Setting(method, json.dumps(choices, sort_keys=True), cost)


Paced = tuple[str, str, Setting, Pace]
"""(task, reward, setting, pace)."""

Place = tuple[str, str]
"""A task and a reward, or a task and "" for all of its rewards."""


@dataclass
class Known:
    """Paces by task, reward and setting."""

    settings: dict[Place, dict[Setting, Pace]] = field(default_factory=dict)
    middle: dict[Place, Pace] = field(default_factory=dict)

    @staticmethod
    def of(found: Iterable[Paced]) -> Known:
        """The medians of what has been seen."""
        known, by_place = Known(), dict[Place, dict[Setting, list[Pace]]]()
        for task, reward, setting, pace in found:
            for place in places(task, reward):
                by_place.setdefault(place, {}).setdefault(setting, []).append(pace)
        for place, paces in by_place.items():
            known.settings[place] = {setting: median(each) for setting, each in paces.items()}
            known.middle[place] = median(pace for each in paces.values() for pace in each)
        return known

    def learn(self, task: str, reward: str, paces: Mapping[Setting, Pace]) -> None:
        """Take what was tried; of the task's other rewards, what was known of them stays."""
        own, all_rewards = places(task, reward)
        self.settings[own] = {**self.settings.get(own, {}), **paces}
        self.settings[all_rewards] = {**paces, **self.settings.get(all_rewards, {})}
        self.middle[own] = median(paces.values())

    def pace(self, task: str, reward: str, setting: Setting) -> Pace | None:
        """Of the nearest setting of the method, or else the middle of all."""
        own, everywhere = places(task, reward)
        known = [
            (setting.far(one, place != own), pace)
            for place in (own, everywhere)
            for one, pace in self.settings.get(place, {}).items()
            if one.method == setting.method
        ]
        if known:
            return min(known, key=lambda pair: pair[0])[1]
        return next((self.middle[p] for p in (own, everywhere) if p in self.middle), None)


def places(task: str, reward: str) -> tuple[Place, Place]:
    """Where to look, the nearest first."""
    return (task, reward), (task, "")


def ended(root: str, device: str) -> Iterator[tuple[Paced | None, Paced | None]]:
    """Of every cell below a root that ended well on a device of this name, and of its fit."""
    for table in sorted(Path(root).glob("*/cells.parquet")):
        try:
            cells = read_table(RunFiles(root, table.parent.name), "cells")[list(COLUMNS)]
        except (UserError, KeyError):  # damaged, or of another release
            continue
        here = (cells.status == "ok") & (cells.device == device)
        for row in cells[here].itertuples():
            yield _of_cell(row), _of_fit(row)


def _of_cell(row: Any) -> Paced | None:
    return _paced(row, row.paper_nfe, _pace(row)) if row.paper_nfe * row.n > 0 else None


def _of_fit(row: Any) -> Paced | None:
    took = row.fit_paper_nfe > 0 and row.fit_seconds_total > 0  # not where nobody timed it
    return _paced(row, row.fit_paper_nfe, _fit_pace(row)) if took else None


def _paced(row: Any, cost: float, pace: Pace) -> Paced:
    return row.task, row.reward, setting_of(row.method_name, json.loads(row.params), cost), pace


def _fit_pace(row: Any) -> Pace:
    return Pace(float(row.fit_seconds_total) / float(row.fit_paper_nfe))


def _pace(row: Any) -> Pace:
    besides = float(row.cell_seconds) - float(row.seconds) - float(row.warmup_seconds)
    return Pace(float(row.seconds) / float(row.paper_nfe * row.n), max(0.0, besides))


def median(paces: Iterable[Pace]) -> Pace:
    """Of rows and of what cells take besides, each for itself."""
    found = list(paces)
    return Pace(
        statistics.median(pace.row for pace in found),
        statistics.median(pace.besides for pace in found),
    )
